"""Run folders left in disorder by a file system or a person: a start copes, or its error says what to do."""

import errno
import os
import shutil

import pytest

from dst_dist.errors import CheckpointError
from tests.train.test_checkpoint import names, newest, saved


def test_a_folder_that_cannot_be_removed_is_logged_and_stays(tmp_path, caplog, monkeypatch):
    """NFS is such a case: a file that a process still has open stays as `.nfs...`."""
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
    assert gone == ["step-00000002.unfinished", leftover.name], "the others are removed"
    assert names(tmp_path) == ["step-00000001.unfinished", "step-00000003", "step-00000004"]
    warnings = [line for line in caplog.messages if "step-00000001" in line and "could not be removed: " in line]
    assert len(warnings) == 2 and all("not empty" in line for line in warnings)


@pytest.mark.parametrize("links", [("last", "best"), ("last",), ("best",)])
def test_a_run_copied_with_its_links_followed_is_refused(tmp_path, links):
    """Nothing is trained or removed: the folder may be the only copy of its checkpoint."""
    saved(tmp_path / "run", [1, 2, 3], number=1, best=(2,))
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy, symlinks=True)
    for name in links:
        (copy / name).unlink()
        shutil.copytree(tmp_path / "run" / name, copy / name)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    (error,) = newest(copy, 1)
    assert isinstance(error, CheckpointError)
    assert f"copy/{links[0]} is a folder, not a link to a checkpoint" in str(error)
    assert f"remove it if {copy}/checkpoints has the same checkpoint, else move it there as step-..." in str(error)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    # What the message says helps.
    for name in links:
        shutil.rmtree(copy / name)
    assert newest(copy, 1) == [copy / "checkpoints/step-00000003"]
    saved(copy, [4], number=1, best=(4,))
    assert os.readlink(copy / "last") == os.readlink(copy / "best") == "checkpoints/step-00000004"
