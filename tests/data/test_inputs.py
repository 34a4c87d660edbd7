"""Sizes, times and code that kept results depend on."""

import os

import pytest

from dst_dist.data import inputs
from dst_dist.data.inputs import SETTLED_NS, Stat, code_digest, stat_of


def test_size_and_time_of_a_file(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"123")
    os.utime(file, ns=(5, 7_000_000_001))
    assert stat_of(file) == Stat(3, 7_000_000_001)
    (tmp_path / "link").symlink_to(file)
    assert stat_of(tmp_path / "link") == stat_of(file)
    assert stat_of(tmp_path / "none") == stat_of(tmp_path) == Stat(0, 0)


def test_a_file_written_just_now_is_not_settled():
    assert Stat(1, 10**10).is_settled(10**10 + SETTLED_NS)
    assert not Stat(1, 10**10).is_settled(10**10 + SETTLED_NS - 1)
    assert not Stat(1, 10**10 + 1).is_settled(10**10)


@pytest.mark.parametrize("mtime_ns", [0, -5, 10**12 + SETTLED_NS + 1])
def test_a_time_that_is_none_of_a_change_never_settles(mtime_ns):
    """A file system without times, an archive's zero, a clock that is ahead."""
    odd = Stat(1, mtime_ns)
    assert odd.is_odd(10**12) and not odd.is_settled(10**12)
    assert not Stat(0, 0).is_odd(10**12) and Stat(0, 0).is_settled(10**12), "there is no file"


def test_another_line_of_code_or_library_is_another_digest(tmp_path, monkeypatch):
    files = [tmp_path / "a.py", tmp_path / "b.py"]
    for file in files:
        file.write_text("x = 1\n")
    digests = [code_digest(files)]
    files[1].write_text("x = 2\n")
    digests.append(code_digest(files))
    monkeypatch.setattr(inputs, "LIBRARIES", ("pillow", "no-such-package"))
    digests.append(code_digest(files))
    monkeypatch.setattr(inputs.metadata, "version", lambda name: "99")
    digests.append(code_digest(files))
    assert len(set(digests)) == 4


def test_the_digest_is_of_all_that_reads_and_cuts(monkeypatch):
    read = []
    monkeypatch.setattr(inputs.Path, "read_bytes", lambda path: read.append(path.name) or b"")
    code_digest()
    assert {"reading.py", "prospect.py", "samples.py", "conversation.py", "frames_check.py", "heads.py"} <= set(read)
