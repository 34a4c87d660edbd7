"""Rows that were found good are not looked at again, for as long as their file is the same."""

import os

import numpy as np
import pytest

from dst_dist.data import certificates
from dst_dist.data.certificates import LEVELS, Certificates
from dst_dist.data.inputs import Stat

STAT = Stat(100, 5)
ROWS = np.arange(10)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache/frames.json"


def kept(file, *added, video="v.arrow"):
    """Certificates read again after some (level, rows) were added."""
    written = Certificates(file)
    for level, rows in added:
        written.add(video, STAT, level, np.array(rows))
    written.save()
    return Certificates(file)


def test_rows_are_those_not_looked_at_yet(file):
    assert Certificates(file).unseen("v.arrow", STAT, "headers", ROWS).tolist() == list(range(10))
    seen = kept(file, ("headers", [0, 1, 2, 5]), ("headers", [2, 3, 9]))
    assert seen.unseen("v.arrow", STAT, "headers", ROWS).tolist() == [4, 6, 7, 8]
    assert seen.unseen("v.arrow", STAT, "headers", ROWS[5:8]).tolist() == [6, 7]
    assert seen.unseen("other.arrow", STAT, "headers", ROWS).tolist() == list(range(10))


def test_a_closer_look_counts_for_a_lesser_one_and_not_the_other_way_round(file):
    assert LEVELS == ("rows", "headers", "decode")
    seen = kept(file, ("rows", [0]), ("headers", [1]), ("decode", [2]))
    left = {level: seen.unseen("v.arrow", STAT, level, ROWS[:4]).tolist() for level in LEVELS}
    assert left == {"rows": [3], "headers": [0, 3], "decode": [0, 1, 3]}


@pytest.mark.parametrize("stat", [Stat(101, 5), Stat(100, 6), Stat(0, 0)])
def test_a_changed_file_is_looked_at_again(file, stat):
    seen = kept(file, ("headers", ROWS))
    assert not len(seen.unseen("v.arrow", STAT, "headers", ROWS))
    assert len(seen.unseen("v.arrow", stat, "headers", ROWS)) == 10
    seen.add("v.arrow", stat, "headers", ROWS[:1])
    assert seen.unseen("v.arrow", stat, "headers", ROWS).tolist() == list(range(1, 10))


def test_a_file_written_just_now_gets_none(file):
    now = Stat(100, 2**62)
    written = Certificates(file)
    written.add("v.arrow", now, "headers", ROWS)
    assert len(written.unseen("v.arrow", now, "headers", ROWS)) == 10


def test_other_code_looks_again(file, monkeypatch):
    kept(file, ("headers", ROWS))
    monkeypatch.setattr(certificates, "code_digest", lambda files: "other")
    assert len(Certificates(file).unseen("v.arrow", STAT, "headers", ROWS)) == 10


def test_what_another_run_wrote_meanwhile_stays(file):
    one, other = Certificates(file), Certificates(file)
    for certificate, video in ((one, "a"), (other, "b")):
        certificate.add(video, STAT, "rows", ROWS)
        certificate.save()
    left = [len(Certificates(file).unseen(video, STAT, "rows", ROWS)) for video in "ab"]
    assert left == [0, 0]


def test_what_a_file_costs_is_remembered_with_its_rows(file):
    written = Certificates(file)
    written.add("v.arrow", STAT, "rows", ROWS, held_bytes=77)
    written.save()
    again = Certificates(file)
    assert again.held_bytes("v.arrow", STAT) == 77
    assert again.held_bytes("v.arrow", Stat(101, 5)) == again.held_bytes("other.arrow", STAT) == 0


def test_a_damaged_file_is_not_believed(file):
    kept(file, ("headers", ROWS))
    file.write_bytes(file.read_bytes().replace(b"10", b"11"))
    assert len(Certificates(file).unseen("v.arrow", STAT, "headers", ROWS)) == 10


def test_nothing_is_written_without_news_or_a_file(file):
    Certificates(file).save()
    without = Certificates(None)
    without.add("v.arrow", STAT, "headers", ROWS)
    without.save()
    assert not os.path.exists(file) and not len(without.unseen("v.arrow", STAT, "headers", ROWS))
