"""Files are seen in whole or not at all."""

import errno
import os
import time
from pathlib import Path

import pytest

from dst_dist.files import (
    LEFT_S,
    flush,
    free_bytes,
    free_name,
    new_word,
    point_to,
    pointed_to,
    remove_leftovers,
    replacing,
    sha256,
    write_whole,
)
from tests.refusing import refused


def test_a_file_is_written_in_a_new_folder_and_replaced(tmp_path):
    file = tmp_path / "new/a.txt"
    write_whole(file, "first\n")
    write_whole(file, (f"{line}\n" for line in ("é", "second")))
    assert file.read_text(encoding="utf-8") == "é\nsecond\n"
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


def test_a_failure_keeps_the_earlier_content_and_leaves_no_temporary_file(tmp_path):
    def lines():
        yield "new\n"
        raise OSError("the disk is full")

    file = tmp_path / "a.txt"
    write_whole(file, "earlier\n")
    with pytest.raises(OSError, match="the disk is full"):
        write_whole(file, lines())
    assert file.read_text() == "earlier\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_content_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    file, seen = tmp_path / "a.txt", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((os.fstat(descriptor).st_size, file.exists())))
    with replacing(file) as temporary:
        temporary.write_text("12345")
        assert not seen
    assert seen == [(5, False)] and file.exists()


@pytest.mark.parametrize(
    ("name", "age_s", "stays"),
    [
        (".a.txt.0123456789abcdef", LEFT_S + 60, False),
        (".a.txt.0123456789abcdef", LEFT_S - 60, True),
        (".b.txt.0123456789abcdef", LEFT_S + 60, True),
        (".a.txt.backup", LEFT_S + 60, True),
        ("a.txt", LEFT_S + 60, True),
    ],
)
def test_what_nobody_writes_to_is_left_over(tmp_path, name, age_s, stays):
    (tmp_path / name).write_text("half")
    os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    remove_leftovers(tmp_path, {"a.txt"}, new_word())
    assert (tmp_path / name).exists() == stays


def test_a_process_removes_what_its_workers_left(tmp_path):
    word = new_word()
    with replacing(tmp_path / "a.txt", word) as own, replacing(tmp_path / "a.txt") as other:
        for temporary in (own, other):
            temporary.write_text("half")
        remove_leftovers(tmp_path, {"a.txt"}, word)
        assert other.exists() and not own.exists()
        own.write_text("whole")
    remove_leftovers(tmp_path / "none", {"a.txt"}, word)
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_folder_can_be_flushed(tmp_path):
    flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "none")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_first_free_name(tmp_path):
    assert free_name(tmp_path / "run", "earlier") == tmp_path / "run.earlier-1"
    for number in (1, 3):
        (tmp_path / f"run.earlier-{number}").mkdir()
    assert free_name(tmp_path / "run", "earlier") == tmp_path / "run.earlier-2"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM])
def test_a_file_system_that_cannot_flush_is_done_without(tmp_path, number):
    file = tmp_path / "a.txt"
    with refused("flush file", number, tmp_path), refused("flush folder", number, tmp_path.parent):
        write_whole(file, "text")
        flush(tmp_path)
    assert file.read_text() == "text"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_flush_that_fails_is_an_error(tmp_path, number):
    with refused("flush file", number, tmp_path), pytest.raises(OSError, match=os.strerror(number)):
        write_whole(tmp_path / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_links", [True, False])
def test_what_points_to_a_file(tmp_path, has_links):
    place, target = tmp_path / "last", Path("checkpoints/step-00000003")
    assert pointed_to(place) is None
    with refused("link", errno.EPERM, tmp_path / "" if not has_links else tmp_path / "elsewhere"):
        point_to(place, target)
    assert place.is_symlink() == has_links and pointed_to(place) == target


def test_the_room_is_unknown_where_the_file_system_does_not_say():
    assert free_bytes(Path("/proc")) is None
    assert free_bytes(Path("/tmp")) > 0
