"""Saves in the background: training goes on meanwhile, and the files have the state of before."""

import json
import threading

import pytest
import torch
from safetensors.torch import load_file

from dst_dist.run_folder import RunFolder
from dst_dist.train.checkpoint import Checkpoints
from dst_dist.train.host_copy import HostCopy
from tests.train.fake_engine import on_processes
from tests.train.in_process import train
from tests.train.killing import AT_WORK, Faults, installed
from tests.train.runs import IN_BACKGROUND, IN_FOREGROUND, assert_same_run, cut_words, status_of
from tests.train.test_checkpoint import names, saved

WAIT_S = 30


def files_of(folder, step):
    place = folder / f"checkpoints/step-{step:08d}"
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_both_ways_write_the_same_files(tmp_path):
    saved(tmp_path / "a", [1, 2], background=True)
    saved(tmp_path / "b", [1, 2], background=False)
    ours, theirs = (files_of(tmp_path / way, 2) for way in ("a", "b"))
    # The generators of the processes, which are threads here, have gone on.
    for name in ("state-00000.safetensors", "state-00001.safetensors", "training.json"):
        assert ours[name] == theirs[name], name
    assert ours.keys() == theirs.keys()


def test_steps_and_random_numbers_during_the_writing_are_not_in_the_files(tmp_path):
    may_write = threading.Event()

    def work(engine):
        checkpoints = Checkpoints(RunFolder(tmp_path / "run"), 2, background=True)
        engine.step()
        random = torch.get_rng_state()
        assert checkpoints.begin(engine, 1, {}, False) and checkpoints.is_writing
        engine.step()
        torch.rand(3)
        assert checkpoints.is_writing and not (tmp_path / "run/checkpoints/step-00000001").exists()
        may_write.set()
        checkpoints.complete(engine)
        assert not checkpoints.is_writing
        return random

    with installed(lambda _: may_write.wait(WAIT_S)):
        (random,), _ = on_processes(1, work)
    saved(tmp_path / "foreground", [1], number=1)
    ours, theirs = (files_of(tmp_path / way, 1)["state-00000.safetensors"] for way in ("run", "foreground"))
    assert ours == theirs
    file = tmp_path / "run/checkpoints/step-00000001/random-00000.safetensors"
    assert torch.equal(load_file(file)["torch@0"], random)


def test_without_memory_on_one_process_all_wait_for_the_disk(tmp_path, monkeypatch, caplog):
    def work(engine):
        checkpoints = Checkpoints(RunFolder(tmp_path), 2, background=True)
        for step in (1, 2):
            engine.step()
            assert not checkpoints.begin(engine, step, {}, False)
            assert checkpoints.complete(engine) is not None and not checkpoints.is_writing

    asked = []
    monkeypatch.setattr(HostCopy, "fits", property(lambda copy: asked.append(copy) or len(asked) > 1))
    results, _ = on_processes(2, work)
    assert results == [None, None] and names(tmp_path) == ["step-00000001", "step-00000002"]
    assert len(asked) == 2, "decided once"
    assert "take too much of the host's available memory; training waits" in caplog.text


# A whole training


@pytest.fixture(scope="module")
def foreground(demo_words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreground") / "run"
    assert train([*cut_words(demo_words, "full"), IN_FOREGROUND, f"output_dir={folder}"]) == 0
    return folder


def test_training_goes_on_while_a_save_is_written(demo_words, foreground, tmp_path, monkeypatch):
    """Each save is held up until the next step is at work; the last one has no next step."""
    at_work, held_up, intact = threading.Event(), [], Checkpoints.begin

    def begin(*arguments):
        at_work.clear()
        return intact(*arguments)

    def fault(point):
        if point == AT_WORK:
            at_work.set()
        elif point == "before state" and len(held_up) < 6:
            held_up.append(at_work.wait(WAIT_S))

    monkeypatch.setattr(Checkpoints, "begin", begin)

    with installed(fault):
        assert train([*cut_words(demo_words, "full"), IN_BACKGROUND, f"output_dir={tmp_path}/run"]) == 0
    assert held_up == [True] * 6
    assert_same_run(tmp_path / "run", foreground)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    timed = [line for line in lines if "checkpoint_write_s" in line]
    assert len(timed) >= 4
    assert all(line["checkpoint_write_s"] > 0 and line["checkpoint_s"] > 0 for line in timed)
    log = (tmp_path / "run/train.log").read_text()
    assert log.count("checkpoint.background: a save copies up to ") == 1
    assert log.count(": training stood still for ") == 7


@pytest.mark.parametrize("point", [AT_WORK, "after state"])
def test_a_full_disk_while_a_save_is_written(demo_words, foreground, tmp_path, point):
    """In training the save is completed before the run ends, in the writing thread it is dropped; neither is silent."""
    words = [*cut_words(demo_words, "full"), IN_BACKGROUND, f"output_dir={tmp_path}/run"]
    with installed(Faults("full", point, 6 if point == AT_WORK else 3)):
        assert train(words) == 1
    assert "No space left" in status_of(tmp_path / "run")["reason"]
    newest = (tmp_path / "run/last").resolve().name
    assert newest == ("step-00000002" if point == "after state" else names(tmp_path / "run")[-1])
    assert not any("." in name for name in names(tmp_path / "run"))
    assert train(words) == 0
    assert_same_run(tmp_path / "run", foreground)
