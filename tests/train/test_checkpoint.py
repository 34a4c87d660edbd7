"""Checkpoints by themselves: what is on the disk, that it comes back, and which stay.

The processes are threads with a small model each, alike as under DDP; real engines are in test_resume.py.
"""

import itertools
import json
import os
import re

import pytest
import torch
from safetensors.torch import load_file, safe_open

from dst_dist.errors import CheckpointError
from dst_dist.files import sha256
from dst_dist.run_folder import RunFolder
from dst_dist.train.checkpoint import MANIFEST, Checkpoints, load, read_manifest, read_training
from dst_dist.train.random_state import random_state, set_random_state
from dst_dist.train.state_files import Stretch, StretchReader, write_stretches
from tests.train.fake_engine import on_processes


def saved(folder, steps, number=2, keep=2, best=(), fault=lambda point: None):
    """Checkpoints of these steps; gives the results and engines of `on_processes`."""

    def work(engine):
        checkpoints = Checkpoints(RunFolder(folder), keep, fault)
        for step in steps:
            engine.step()
            checkpoints.save(engine, step, {"progress": {"step": step}}, step in best)

    results, engines = on_processes(number, work)
    return results, engines


def newest(folder, number=2):
    """What a start finds: every process's answer of `newest_valid`."""

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


def test_a_file_is_read_by_the_safetensors_library(tmp_path):
    weight, counts = torch.randn(7), torch.arange(3)
    digest = write_stretches(
        tmp_path / "a.safetensors", [Stretch("layer.weight", 4, weight), Stretch("counts", 0, counts)]
    )
    found = load_file(tmp_path / "a.safetensors")
    assert same(found, {"layer.weight@4": weight, "counts@0": counts})
    assert digest == sha256(tmp_path / "a.safetensors")


def test_stretches_of_several_files_are_joined(tmp_path):
    whole = torch.randn(10)
    files = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    write_stretches(files[0], [Stretch("w", 6, whole[6:]), Stretch("w", 0, whole[:2])])
    write_stretches(files[1], [Stretch("w", 2, whole[2:6]), Stretch("empty", 0, whole[:0])])
    reader = StretchReader(files)
    for start, stop in itertools.combinations(range(11), 2):
        out = torch.empty(stop - start)
        reader.fill("w", start, out)
        assert torch.equal(out, whole[start:stop])
    with pytest.raises(CheckpointError, match="4 of the 6 entries wanted of w"):
        StretchReader(files[1:]).fill("w", 0, torch.empty(6))


def test_a_file_larger_than_a_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("dst_dist.train.state_files.CHUNK_BYTES", 64)
    whole = torch.randn(1000)
    assert write_stretches(tmp_path / "a.safetensors", [Stretch("w", 0, whole)]) == sha256(tmp_path / "a.safetensors")
    assert torch.equal(load_file(tmp_path / "a.safetensors")["w@0"], whole)


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


def test_replicas_share_the_writing(tmp_path):
    saved(tmp_path, [1], number=2)
    sizes = [
        sum(
            tensor.numel()
            for tensor in load_file(tmp_path / f"checkpoints/step-00000001/state-0000{rank}.safetensors").values()
        )
        for rank in (0, 1)
    ]
    # 32 parameters, of each the weight and two moments.
    assert sum(sizes) == 96 and abs(sizes[0] - sizes[1]) <= 12


def test_everything_is_on_the_disk_before_the_name_says_so(tmp_path, monkeypatch):
    """Each file is flushed, then its folder, then the folder is renamed, then the folder above is flushed."""
    events, intact = [], os.fsync

    def fsync(descriptor):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        # A file that is still written under another name.
        events.append(re.sub(r"^\.(.+)\.\d+$", r"\1", name))
        intact(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    saved(tmp_path, [1], number=1, fault=lambda point: events.append(point))
    events = [event for event in events if "." in event or event in ("checkpoints", "before rename", "after rename")]
    beside = events[events.index("MANIFEST.json") + 1]
    assert beside.startswith("step-00000001.unfinished-")
    assert events == [
        "state-00000.safetensors",
        "random-00000.safetensors",
        "training.json",
        "MANIFEST.json",
        beside,
        "before rename",
        "after rename",
        "checkpoints",
    ]


# There and back


@pytest.mark.parametrize("number, later", [(1, 1), (2, 2), (2, 1), (1, 2), (2, 4), (4, 1), (3, 2)])
def test_weights_moments_and_step_come_back(tmp_path, number, later):
    _, engines = saved(tmp_path, [1, 2, 3], number)
    path = tmp_path / "checkpoints/step-00000003"

    def work(engine):
        load(path, engine, 3)

    results, others = on_processes(later, work, seed=1)
    assert results == [None] * later
    for other in others:
        assert same(other.whole_state, engines[0].whole_state)
        assert all(float(state["step"]) == 3 for state in other.optimizer.state.values())


def test_a_save_before_the_first_step(tmp_path):
    on_processes(2, lambda engine: Checkpoints(RunFolder(tmp_path), 2).save(engine, 0, {}, False))
    _, (fresh, _) = on_processes(2, lambda engine: load(tmp_path / "checkpoints/step-00000000", engine, 0), seed=1)
    assert all(not state["exp_avg"].any() and float(state["step"]) == 0 for state in fresh.optimizer.state.values())
    _, (stepped, _) = on_processes(2, lambda engine: None)
    assert same(dict(fresh.unwrapped.named_parameters()), dict(stepped.unwrapped.named_parameters()))


def test_random_numbers_come_back(tmp_path):
    write_stretches(tmp_path / "a.safetensors", random_state(torch.device("cpu")))
    first = torch.rand(3).tolist()
    assert torch.rand(3).tolist() != first
    set_random_state(StretchReader([tmp_path / "a.safetensors"]), torch.device("cpu"))
    assert torch.rand(3).tolist() == first


def test_other_parameters_are_refused(tmp_path):
    saved(tmp_path, [1], number=1)
    path = tmp_path / "checkpoints/step-00000001"

    def with_another(engine):
        engine.unwrapped.append(torch.nn.Linear(2, 2, bias=False))
        load(path, engine, 1)

    (error,), _ = on_processes(1, with_another)
    assert isinstance(error, CheckpointError) and "2.weight are not in it, none are in it alone" in str(error)

    def smaller(engine):
        """Its first 6 numbers would fit."""
        engine.unwrapped[1] = torch.nn.Linear(3, 2)
        load(path, engine, 1)

    (error,), _ = on_processes(1, smaller)
    assert isinstance(
        error, CheckpointError
    ) and "1 parameters have other shapes now: 1.weight was [2, 5] and is [2, 3]" in str(error)


def test_any_damage_to_a_manifest_gives_way_to_the_checkpoint_before(tmp_path):
    """Every byte of it in turn, three bits each; whichever checkpoint is chosen, nothing else is raised."""
    saved(tmp_path, [1, 2], number=1)
    file = tmp_path / "checkpoints/step-00000002/MANIFEST.json"
    whole = file.read_bytes()
    good, spoiled = read_manifest(file.parent), 0
    for place in range(len(whole)):
        for bit in (1, 4, 32):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                spoiled += read_manifest(file.parent) != good
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                spoiled += 1
    assert spoiled > len(whole)
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


def test_links_are_mended(tmp_path):
    saved(tmp_path, [1, 2], number=1, best=(1, 2))
    checkpoints = Checkpoints(RunFolder(tmp_path), 2)
    checkpoints.link_again(tmp_path / "checkpoints/step-00000001", 1)
    assert os.readlink(tmp_path / "last") == os.readlink(tmp_path / "best") == "checkpoints/step-00000001"
    # Its best one is gone: no link is better than one to nowhere.
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
