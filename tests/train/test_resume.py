"""A run that was cut and resumed equals one that was not, on every engine and any number of processes."""

import itertools
import json
import shutil
import time

import pytest

from dst_dist.train import loop, validation
from tests.train.cutting import Cut, cut, cut_run
from tests.train.in_process import train
from tests.train.killing import AT_WORK, Faults, installed
from tests.train.runs import (
    IN_BACKGROUND,
    IN_FOREGROUND,
    assert_same_run,
    clips_by_step,
    curve,
    cut_words,
    final_weights,
    same,
    status_of,
    whole_state,
)

ENGINES = ("cpu_ddp", "cpu_zero2", "cpu_fsdp")
WITH_FAULTS = ("tests.train.killing",)


# One process, in this process


@pytest.fixture(scope="module")
def straight(demo_words, tmp_path_factory):
    """Folders of runs that were never cut, by mode."""
    folder = tmp_path_factory.mktemp("straight")
    for mode in ("lora", "full"):
        assert train([*cut_words(demo_words, mode), f"output_dir={folder}/{mode}"]) == 0
    return folder


CUTS = {
    "mid-epoch": [("after rename", 2)],
    "at an epoch's end": [("after prune", 3)],
    "inside epoch 1": [("before state", 6)],
    "inside accumulation": [(AT_WORK, 11)],
    "before the first save": [(AT_WORK, 2)],
    "in the evaluation of a saved step": [("after prune", 3), ("before link best", 1)],
    "between the last rename and its links": [("after rename", 7)],
    "inside the final model": [("inside final", 1)],
    "again and again": [("before rename", n) for n in (2, 2, 1, 2)] + [("after rename", 2), (AT_WORK, 3)],
}


@pytest.mark.parametrize("mode, way", [("lora", IN_BACKGROUND), ("full", IN_FOREGROUND)])
@pytest.mark.parametrize("points", CUTS.values(), ids=CUTS)
def test_one_process(straight, demo_words, tmp_path, mode, way, points):
    """The runs that were never cut saved in the background: both ways save the same."""
    cut_run([*cut_words(demo_words, mode, way), f"output_dir={tmp_path}/run"], *points)
    assert_same_run(tmp_path / "run", straight / mode)


def test_with_data_workers(straight, demo_words, tmp_path):
    cut_run([*cut_words(demo_words, "lora", "data.num_workers=2"), f"output_dir={tmp_path}/run"], ("after rename", 4))
    assert_same_run(tmp_path / "run", straight / "lora")


def test_a_cut_evaluation_is_done_again_and_its_best_is_found(straight, demo_words, tmp_path, monkeypatch):
    """Stopped in an evaluation: saved without it; the next start evaluates before it trains."""
    words = [*cut_words(demo_words), f"output_dir={tmp_path}/run"]
    intact, seen = validation.read_model, []

    def cut_short(forward, dataset, specs, *others, **options):
        seen.append(len(specs))
        (tmp_path / "run/STOP").touch()
        assert intact(forward, dataset, specs, *others, **options) is None

    monkeypatch.setattr(validation, "read_model", cut_short)
    assert train(words) == 85
    monkeypatch.setattr(validation, "read_model", intact)
    assert seen == [3] and status_of(tmp_path / "run")["step"] == 3
    assert not (tmp_path / "run/best").is_symlink()
    assert train(words) == 0
    assert_same_run(tmp_path / "run", straight / "lora")


def test_resuming_a_long_run_is_as_fast(demo_words, tmp_path, monkeypatch):
    """Time from the start of the command to the end of its first step, after 100,000 steps and after one."""
    words = cut_words(demo_words, "lora", "train.max_steps=100001", "data.val=[]", "checkpoint.every_steps=100000")
    with installed(Faults(cut, AT_WORK, 5)), pytest.raises(Cut):
        train([*words, "checkpoint.every_steps=1", "checkpoint.background=false", f"output_dir={tmp_path}/1"])
    shutil.copytree(tmp_path / "1", tmp_path / "100000", symlinks=True)
    move_to_step(tmp_path / "100000/checkpoints/step-00000001", 100_000)
    ended = []
    intact = loop.Trainer.train_step

    def timed_step(trainer, step, *others):
        intact(trainer, step, *others)
        ended.append((step, time.perf_counter()))
        (trainer.run_folder.path / "STOP").touch()

    monkeypatch.setattr(loop.Trainer, "train_step", timed_step)
    elapsed = {}
    for start in (1, 100_000, 1, 100_000):
        shutil.copytree(tmp_path / str(start), tmp_path / "run", symlinks=True)
        began = time.perf_counter()
        assert train([*words, f"output_dir={tmp_path}/run"]) == 85
        assert ended[-1][0] == start
        elapsed[start] = min(elapsed.get(start, 1e9), ended[-1][1] - began)
        shutil.rmtree(tmp_path / "run")
    print(f"to the first step: {elapsed[1]:.2f} s at step 1, {elapsed[100_000]:.2f} s at step 100,000")
    assert elapsed[100_000] <= 1.2 * elapsed[1] + 2


def move_to_step(path, step):
    """Make a checkpoint one of another step."""
    from dst_dist.files import sha256

    training = json.loads((path / "training.json").read_text())
    training["progress"] |= {"step": step}
    (path / "training.json").write_text(json.dumps(training))
    manifest = json.loads((path / "MANIFEST.json").read_text())
    file = path / "training.json"
    manifest["files"]["training.json"] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    path.rename(path.with_name(f"step-{step:08d}"))


# Every engine, two processes


LONG_ENGINES = tuple(
    pytest.param(engine, marks=pytest.mark.long) for engine in ("cpu_zero2_offload", "cpu_fsdp_no_reshard")
)


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("engine", [*ENGINES, *LONG_ENGINES])
def test_two_processes(starter, demo_words, tmp_path, engine, mode):
    """Killed as a process does not save (at an epoch's end) or in the middle of accumulation, and continued.

    One mode saves in the background and the other in the foreground.
    """
    words = cut_words(demo_words, mode, IN_BACKGROUND if mode == "lora" else IN_FOREGROUND)
    fault = "kill:before state:1:4" if mode == "lora" else f"kill:{AT_WORK}:0:9"
    ids = {name: tmp_path / f"ids-{name}" for name in ("straight", "cut", "continued")}

    def start(name, folder, **env):
        return starter.run(engine, words, tmp_path / folder, module=WITH_FAULTS, env={"IDS": str(ids[name]), **env})

    start("straight", "straight").check()
    killed = start("cut", "run", FAULT=fault)
    assert killed.returncode == -9, killed.output[-3000:]
    continued = start("continued", "run", LOADED=str(tmp_path / "loaded")).check()
    first = 3 if mode == "lora" else 4
    assert f"continued from {tmp_path}/run/checkpoints/step-{first:08d}" in continued.output
    assert_same_run(tmp_path / "run", tmp_path / "straight")
    assert sum("_head" in name for name in final_weights(tmp_path / "run")) >= 4, "both heads, weight and bias"
    clips = clips_by_step(ids["straight"])
    assert clips_by_step(ids["cut"], ids["continued"]) == clips
    assert set(clips) == set(itertools.product((0, 1), range(1, 8)))
    assert len({json.loads((tmp_path / f"loaded/{rank}.json").read_text())["weights"] for rank in (0, 1)}) == 1


# Another number of processes, another engine

NO_DROPOUT = ("finetune.lora.dropout=0", "data.val=[]")
GROUP_KEYS = ("peak_lr", "weight_decay", "betas", "eps")
# Each change is one of the engine and of the number of processes.
EVERY_PLACE = (
    ("zero2", 2),
    ("fsdp", 4),
    ("ddp", 1),
    ("zero2", 4),
    ("fsdp", 1),
    ("ddp", 2),
    ("zero2", 1),
    ("fsdp", 2),
    ("ddp", 4),
)


def check_chain(starter, demo_words, tmp_path, mode, precision, *places):
    """Train two steps in each place, cut, and resume in the next; compare with one process that was not cut."""
    steps = 2 * len(places)
    # No dropout: its masks follow the packing.
    extra = (*NO_DROPOUT, f"train.precision={precision}", f"train.max_steps={steps}")
    words = cut_words(demo_words, mode, *extra)
    assert train([*words, f"output_dir={tmp_path}/straight"]) == 0
    groups = []
    for number, (engine, processes) in enumerate(places):
        before = whole_state(tmp_path / "run/last") if number else None
        is_last = number == len(places) - 1
        env = {"LOADED": str(tmp_path / f"loaded-{number}")} | ({} if is_last else {"FAULT": "kill:after prune:0:2"})
        more = ["--allow-changed", "engine"] if number and engine != places[number - 1][0] else []
        ended = starter.run(f"cpu_{engine}", [*words, *more], tmp_path / "run", processes, module=WITH_FAULTS, env=env)
        assert ended.returncode == (0 if is_last else -9), ended.output[-3000:]
        if before:
            assert same(whole_state(tmp_path / f"loaded-{number}"), before), "loaded is what was saved"
        loaded = [json.loads((tmp_path / f"loaded-{number}/{rank}.json").read_text()) for rank in range(processes)]
        assert all(one["weights"] == loaded[0]["weights"] and one["step"] == 2 * number for one in loaded)
        groups.append([[group[key] for key in GROUP_KEYS] for one in loaded for group in one["groups"]])
        assert groups[-1] == groups[0][: len(groups[0]) // places[0][1]] * processes
    # bfloat16 has 8 bits, and packing orders the sums.
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    ours, theirs = curve(tmp_path / "run"), curve(tmp_path / "straight")
    assert ours.keys() == theirs.keys()
    for key, line in theirs.items():
        for term in ("loss", "loss/lm", "loss/dst_gen", "loss/dst_update", "loss/speaking"):
            assert ours[key][term] == pytest.approx(line[term], rel=tolerance, abs=tolerance), (key, term)
        assert all(ours[key][name] == line[name] for name in ("learning_rate", "num_tokens", "num_samples", "epoch"))
    assert final_weights(tmp_path / "run").keys() == final_weights(tmp_path / "straight").keys()


CHAINS = {
    "lora-fp32": ("lora", "fp32", ("zero2", 2), ("fsdp", 4), ("ddp", 1)),
    "full-fp32": ("full", "fp32", ("fsdp", 2), ("hsdp", 4), ("zero2", 4), ("fsdp", 1)),
    "full-bf16": ("full", "bf16", ("zero2", 2), ("ddp", 2)),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_other_processes_and_engines(starter, demo_words, tmp_path, chain):
    check_chain(starter, demo_words, tmp_path, *chain)


@pytest.mark.long
@pytest.mark.parametrize("mode, precision", itertools.product(("lora", "full"), ("fp32", "bf16")))
def test_through_every_place_and_back(starter, demo_words, tmp_path, mode, precision):
    """Each place reads what another one wrote and is read by another: with one form on disk that covers every pair."""
    check_chain(starter, demo_words, tmp_path, mode, precision, *EVERY_PLACE, EVERY_PLACE[0])
