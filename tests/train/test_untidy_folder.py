"""Run folders that a file system or a person left in disorder: a start makes do, or says what to do."""

import errno
import os
import shutil

import pytest

from dst_dist.errors import CheckpointError
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


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_folder_where_a_link_goes_is_refused_at_the_start(tmp_path, name):
    """As in a run copied with its links followed; it may be the only copy of a checkpoint, so it is left alone."""
    saved(tmp_path / "run", [1, 2], number=1, best=(2,))
    (tmp_path / "copy").mkdir()
    shutil.copytree(tmp_path / "run/last", tmp_path / "copy" / name)
    (error,) = newest(tmp_path / "copy", 1)
    assert isinstance(error, CheckpointError)
    assert f"copy/{name} is a folder where a link" in str(error) and "remove it if" in str(error)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "copy" / name).iterdir()}
    assert kept == {path.name: path.read_bytes() for path in (tmp_path / "run/last").iterdir()}
