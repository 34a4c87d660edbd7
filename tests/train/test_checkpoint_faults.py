"""Whatever happens to a save or to its files afterwards, a good checkpoint is found, or an error names the damage."""

import builtins
import errno
import json
import os
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dst_dist.errors import CheckpointError
from dst_dist.run_folder import RunFolder
from dst_dist.train.background import THREAD
from dst_dist.train.checkpoint import MANIFEST, Checkpoints, load
from dst_dist.train.state_files import Stretch, write_stretches
from tests.train.fake_engine import on_processes
from tests.train.killing import NOT_ON_MAIN, POINTS, Faults, installed
from tests.train.test_checkpoint import names, newest, saved

POINTS_OF_A_SAVE = tuple(point for point in POINTS if point != "inside final")


WAYS = {"foreground": False, "background": True}


class Killed(BaseException):
    """A process that was killed."""


def dies():
    raise Killed


@pytest.mark.parametrize("background", WAYS.values(), ids=WAYS)
def test_the_points_are_all_passed(tmp_path, background):
    """The list that the other tests go through is complete."""
    passed = set()
    with installed(passed.add):
        saved(tmp_path, [1, 2, 3], number=2, best=(2,), background=background)
    assert passed == set(POINTS_OF_A_SAVE)


CASES = [(point, rank) for point in POINTS_OF_A_SAVE for rank in ((0, 1) if point in NOT_ON_MAIN else (0,))]


def faulty_save(folder, kind, point, rank, background):
    """Save steps 1 and 2, then step 3 with a fault on one process."""
    saved(folder, [1, 2], best=(1,))
    faults = [Faults(kind, point if at == rank else "") for at in (0, 1)]
    of_thread = threading.local()

    def fault(name):
        thread = threading.current_thread().name
        rank = int(thread.removeprefix(THREAD).split("_")[0][1:]) if thread.startswith(THREAD) else of_thread.rank
        faults[rank](name)

    def work(engine):
        of_thread.rank = engine.rank
        for _ in range(3):
            engine.step()
        checkpoints = Checkpoints(RunFolder(folder), 2, background)
        checkpoints.begin(engine, 3, {"progress": {"step": 3}}, True)
        checkpoints.complete(engine)
        checkpoints.remover.wait()

    with installed(fault):
        results, _ = on_processes(2, work)
        # A process that is killed has no thread left.
        for thread in threading.enumerate():
            if thread.name.startswith(THREAD):
                thread.join()
    return results


@pytest.mark.parametrize("background", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("point, rank", CASES)
def test_a_kill_anywhere_leaves_a_good_checkpoint(tmp_path, point, rank, background):
    results = faulty_save(tmp_path, dies, point, rank, background)
    assert isinstance(results[rank], Killed)
    is_complete = POINTS.index(point) >= POINTS.index("after rename")
    path = tmp_path / f"checkpoints/step-0000000{3 if is_complete else 2}"
    assert newest(tmp_path) == [path, path]
    assert not [name for name in names(tmp_path) if "." in name]
    # Training comes to this step again, and all is as without the fault.
    Checkpoints(RunFolder(tmp_path), 2).link_again(path, 3 if is_complete else 1)
    _, engines = saved(tmp_path, [3], best=(3,))
    assert names(tmp_path) == ["step-00000002", "step-00000003"]
    assert (tmp_path / "last").resolve().name == (tmp_path / "best").resolve().name == "step-00000003"
    assert newest(tmp_path) == [tmp_path / "checkpoints/step-00000003"] * 2


@pytest.mark.parametrize("background", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("point, rank", CASES)
def test_a_full_disk_anywhere_stops_all_and_leaves_a_good_checkpoint(tmp_path, point, rank, background):
    results = faulty_save(tmp_path, "full", point, rank, background)
    if point == "inside prune":
        assert results == [None, None], "an old checkpoint too many is no reason to stop"
    else:
        assert all(isinstance(result, OSError) for result in results), results
        assert results[rank].errno == errno.ENOSPC
        assert "No space left on device" in str(results[1 - rank])
    assert not any(".unfinished-" in name for name in names(tmp_path)), "what was written goes, to make room"
    is_complete = POINTS.index(point) >= POINTS.index("after rename")
    assert newest(tmp_path) == [tmp_path / f"checkpoints/step-0000000{3 if is_complete else 2}"] * 2


def test_a_truly_full_disk():
    """Every write to /dev/full fails."""
    with pytest.raises(OSError, match="No space left"):
        write_stretches(Path("/dev/full"), [Stretch("w", 0, torch.zeros(100))])


def truncate(file):
    os.truncate(file, file.stat().st_size - 1)


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "truncated": (truncate, "has"),
    "deleted": (os.unlink, "cannot be read (No such file or directory)"),
    "flipped": (flip, "was changed"),
}


@pytest.mark.parametrize("file", ["state-00001.safetensors", "random-00000.safetensors", "training.json"])
@pytest.mark.parametrize("damage, says", DAMAGES.values(), ids=DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path, caplog, file, damage, says):
    saved(tmp_path, [1, 2, 3])
    damage(tmp_path / "checkpoints/step-00000003" / file)
    check_gives_way(tmp_path, caplog, f"{file} {says}")


@pytest.mark.parametrize("content", [None, "", '{"files": {"training.js', '{"fils": {}}', '{"files": 3}', "[]"])
def test_the_checkpoint_before_a_damaged_manifest_is_used(tmp_path, caplog, content):
    saved(tmp_path, [1, 2, 3])
    manifest = tmp_path / "checkpoints/step-00000003" / MANIFEST
    manifest.unlink() if content is None else manifest.write_text(content)
    check_gives_way(tmp_path, caplog, "no readable MANIFEST.json")


def check_gives_way(folder, caplog, says):
    """The one before is used, the log has the reason, and the step can be saved again."""
    assert newest(folder) == [folder / "checkpoints/step-00000002"] * 2
    assert f"step-00000003 cannot be used, the one before is tried: {says}" in caplog.text
    assert names(folder) == ["step-00000002", "step-00000003.broken-1"]
    saved(folder, [3])
    assert newest(folder) == [folder / "checkpoints/step-00000003"] * 2


def test_without_a_good_checkpoint_the_run_does_not_begin_again(tmp_path):
    saved(tmp_path, [1, 2, 3])
    for step in (2, 3):
        flip(tmp_path / f"checkpoints/step-0000000{step}/training.json")
    for error in newest(tmp_path):
        assert isinstance(error, CheckpointError)
        assert "no checkpoint can be used; to begin again from the first step, move" in str(error)
    assert names(tmp_path) == ["step-00000002", "step-00000003"], "nothing was renamed"


def test_a_start_without_checkpoints_finds_none(tmp_path):
    assert newest(tmp_path) == [None, None]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_verifying_reads_each_byte_once(tmp_path, monkeypatch, number):
    saved(tmp_path, [1, 2])
    opened, intact = [], builtins.open

    def counting(file, *mode, **others):
        if "step-" in str(file):
            opened.append(os.path.basename(file))
        return intact(file, *mode, **others)

    monkeypatch.setattr(builtins, "open", counting)
    assert newest(tmp_path, number)[0].name == "step-00000002"
    files = json.loads((tmp_path / "checkpoints/step-00000002" / MANIFEST).read_text())["files"]
    assert sorted(name for name in opened if name != MANIFEST) == sorted(files)


def test_pickles_in_a_checkpoint_are_never_loaded(tmp_path, monkeypatch):
    saved(tmp_path, [1], number=1)
    path = tmp_path / "checkpoints/step-00000001"
    for name in ("optimizer.pt", "pytorch_model.bin", "state-00009.safetensors", "random-00000.pt", ".metadata"):
        (path / name).write_bytes(pickle.dumps(SimpleNamespace(evil=1)))
    monkeypatch.setattr(pickle, "Unpickler", dies)
    monkeypatch.setattr(pickle, "load", dies)
    monkeypatch.setattr(torch, "load", dies)
    assert newest(tmp_path, 1) == [path]
    results, _ = on_processes(1, lambda engine: load(path, engine, 1))
    assert results == [None]
