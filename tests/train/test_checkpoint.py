"""Checkpoints: which files they have, when they are complete, which are refused, and which stay.

The processes are threads with a small model each, the same as under DDP; real engines are in test_resume.py.
"""

import json
import os
import re

import torch
from safetensors.torch import safe_open

from dst_dist.errors import CheckpointError
from dst_dist.files import sha256
from dst_dist.run_folder import RunFolder
from dst_dist.train.checkpoint import MANIFEST, Checkpoints, load, read_manifest, read_training
from tests.train.fake_engine import on_processes
from tests.train.killing import installed


def saved(folder, steps, number=2, keep=2, best=(), background=False):
    """Save checkpoints of these steps; return the results and engines of `on_processes`."""

    def work(engine):
        checkpoints = Checkpoints(RunFolder(folder), keep, background)
        for step in steps:
            engine.step()
            assert checkpoints.begin(engine, step, {"progress": {"step": step}}, step in best) == background
            path, _ = checkpoints.complete(engine)
            assert path == folder / f"checkpoints/step-{step:08d}"
        checkpoints.remover.wait()

    results, engines = on_processes(number, work)
    return results, engines


def newest(folder, number=2):
    """Start; return what `newest_valid` returns on every process."""

    def work(engine):
        checkpoints = Checkpoints(RunFolder(folder), 2)
        if engine.is_main:
            checkpoints.clear_unfinished()
        engine.from_main(None)
        return checkpoints.newest_valid(engine)

    results, _ = on_processes(number, work)
    return results


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


# Files


def test_the_manifest_names_every_other_file(tmp_path):
    saved(tmp_path, [3])
    folder = tmp_path / "checkpoints/step-00000003"
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert set(files) == {path.name for path in folder.iterdir()} - {MANIFEST}
    assert set(files) == {
        "training.json",
        *(f"{kind}-0000{rank}.safetensors" for kind in ("state", "random") for rank in (0, 1)),
    }
    for name, about in files.items():
        assert about == {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    shapes = {"0.weight": [5, 3], "0.bias": [5], "1.weight": [2, 5], "1.bias": [2]}
    assert read_training(folder) == {"progress": {"step": 3}, "shapes": shapes}


def test_everything_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    """Each file is flushed, then its folder, then the folder is renamed, then the folder above is flushed."""
    events, intact = [], os.fsync

    def fsync(descriptor):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        intact(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with installed(events.append):
        saved(tmp_path, [1], number=1)
    # Text files are flushed under a temporary name: `.training.json.<random letters>`.
    events = [re.sub(r"^\.(.+)\.[^.]+$", r"\1", event) for event in events]
    events = [event for event in events if "." in event or event in ("checkpoints", "before rename", "after rename")]
    temporary = events[events.index("MANIFEST.json") + 1]
    assert temporary.startswith("step-00000001.unfinished-")
    assert events == [
        "state-00000.safetensors",
        "random-00000.safetensors",
        "training.json",
        "MANIFEST.json",
        temporary,
        "before rename",
        "after rename",
        "checkpoints",
    ]


# Loading


def test_other_parameters_are_refused(tmp_path):
    saved(tmp_path, [1], number=1)
    path = tmp_path / "checkpoints/step-00000001"

    def with_another(engine):
        engine.unwrapped.append(torch.nn.Linear(2, 2, bias=False))
        load(path, engine, 1)

    (error,), _ = on_processes(1, with_another)
    assert isinstance(error, CheckpointError) and "1 in all: 2.weight was frozen and is [2, 2];" in str(error)

    def smaller(engine):
        """Its first 6 numbers would fit."""
        engine.unwrapped[1] = torch.nn.Linear(3, 2)
        load(path, engine, 1)

    (error,), _ = on_processes(1, smaller)
    assert isinstance(error, CheckpointError) and "1 in all: 1.weight was [2, 5] and is [2, 3];" in str(error)


def test_any_damage_to_a_manifest_raises_oserror_or_valueerror(tmp_path):
    """Three bits of every byte in turn are flipped; the checkpoint before is used."""
    saved(tmp_path, [1, 2], number=1)
    file = tmp_path / "checkpoints/step-00000002/MANIFEST.json"
    whole = file.read_bytes()
    good, damaged = read_manifest(file.parent), 0
    for place in range(len(whole)):
        for bit in (1, 4, 32):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                damaged += read_manifest(file.parent) != good
            except (OSError, ValueError):
                damaged += 1
    assert damaged > len(whole)
    file.write_bytes(whole.replace(b'"bytes"', b'"bytez"', 1))
    (chosen,), _ = on_processes(1, Checkpoints(RunFolder(tmp_path), 2).newest_valid)
    assert chosen.name == "step-00000001"


# Which stay


def test_the_newest_and_the_best_stay(tmp_path):
    saved(tmp_path, range(1, 6), number=1, keep=2, best=(2,))
    assert names(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]
    assert os.readlink(tmp_path / "last") == "checkpoints/step-00000005"
    assert os.readlink(tmp_path / "best") == "checkpoints/step-00000002"
    saved(tmp_path, [6], number=1, keep=3, best=(6,))
    assert names(tmp_path) == ["step-00000004", "step-00000005", "step-00000006"]


def test_steps_are_ordered_as_numbers(tmp_path):
    saved(tmp_path, [99_999_999, 100_000_000], number=1)
    assert newest(tmp_path, 1) == [tmp_path / "checkpoints/step-100000000"]


def test_a_saved_step_is_not_written_again(tmp_path):
    saved(tmp_path, [1], number=1)
    before = (tmp_path / "checkpoints/step-00000001" / MANIFEST).stat()
    saved(tmp_path, [1], number=1, best=(1,))
    assert (tmp_path / "checkpoints/step-00000001" / MANIFEST).stat() == before
    assert os.readlink(tmp_path / "best") == "checkpoints/step-00000001"


def test_links_are_set_again(tmp_path):
    saved(tmp_path, [1, 2], number=1, best=(1, 2))
    checkpoints = Checkpoints(RunFolder(tmp_path), 2)
    checkpoints.link_again(tmp_path / "checkpoints/step-00000001", 1)
    assert os.readlink(tmp_path / "last") == os.readlink(tmp_path / "best") == "checkpoints/step-00000001"
    # The best one is gone, so there is no link either.
    checkpoints.link_again(tmp_path / "checkpoints/step-00000001", 7)
    assert not (tmp_path / "best").is_symlink()


def test_only_tensors_and_json(tmp_path):
    saved(tmp_path, [1])
    for file in (tmp_path / "checkpoints/step-00000001").iterdir():
        if file.suffix == ".json":
            json.loads(file.read_text())
        else:
            with safe_open(file, framework="pt") as tensors:
                assert list(tensors.keys())
