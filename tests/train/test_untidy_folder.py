"""Run folders that a file system or a person left in disorder: a start makes do, or says what to do."""

import errno
import os
import shutil

import pytest

from dst_dist.errors import CheckpointError
from dst_dist.train.checkpoint import Checkpoints
from tests.train.test_checkpoint import names, newest, saved


def test_what_cannot_be_removed_is_said_and_left(tmp_path, caplog, monkeypatch):
    """As on NFS, where a file that a process still has open stays as `.nfs...`."""
    intact, gone = shutil.rmtree, []

    def rmtree(path, *others):
        if "step-00000001" in str(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        gone.append(path.name)
        intact(path, *others)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    saved(tmp_path, [1, 2, 3, 4], number=1)
    leftover = tmp_path / "checkpoints/step-00000009.unfinished-ab"
    leftover.mkdir()
    assert newest(tmp_path, 1) == [tmp_path / "checkpoints/step-00000004"]
    assert gone == ["step-00000002.unfinished", leftover.name], "one that stays keeps no other"
    assert names(tmp_path) == ["step-00000001.unfinished", "step-00000003", "step-00000004"]
    said = [line for line in caplog.messages if "step-00000001" in line and "could not be removed: " in line]
    assert len(said) == 2 and all("not empty" in line for line in said)


@pytest.mark.parametrize("best", [2, 0, 7])
def test_a_run_copied_with_its_links_followed_goes_on(tmp_path, best):
    saved(tmp_path / "run", [1, 2, 3], number=1, best=(2,))
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert not (tmp_path / "copy/last").is_symlink()
    last = tmp_path / "copy/checkpoints/step-00000003"
    assert newest(tmp_path / "copy", 1) == [last]
    Checkpoints(tmp_path / "copy", 2).link_again(last, best)
    assert os.readlink(tmp_path / "copy/last") == "checkpoints/step-00000003"
    # A best one that is not there has no link.
    assert (tmp_path / "copy/best").is_symlink() == os.path.lexists(tmp_path / "copy/best") == (best == 2)
    saved(tmp_path / "copy", [4], number=1, best=(4,))
    assert names(tmp_path / "copy") == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("name", ["last", "best"])
def test_the_only_copy_of_a_checkpoint_is_never_removed(tmp_path, name):
    saved(tmp_path / "run", [1, 2], number=1, best=(2,))
    (tmp_path / "copy").mkdir()
    shutil.copytree(tmp_path / "run/last", tmp_path / "copy" / name)
    # Nothing is trained before this is said; nor is it removed in the course of a training.
    (early,) = newest(tmp_path / "copy", 1)
    (late,), _ = saved(tmp_path / "copy", [3], number=1, best=(3,))
    for error in (early, late):
        assert isinstance(error, CheckpointError)
        assert f"copy/{name} is a folder where a link" in str(error) and "move it away" in str(error)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "copy" / name).iterdir()}
    assert kept == {path.name: path.read_bytes() for path in (tmp_path / "run/last").iterdir()}
