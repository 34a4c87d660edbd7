"""A run that was cut and continued is the run that was not, on every engine and any number of processes."""

import itertools
import json
import os
import pickle
import re
import shutil
import time
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from dst_dist.config import Checkpoint
from dst_dist.train import loop
from dst_dist.train.checkpoint import read_training
from tests.train.in_process import train
from tests.train.killing import AT_WORK, Faults, installed
from tests.train.runs import (
    assert_same_run, clips_by_step, curve, cut_words, final_weights, same, status_of, whole_state,
)  # fmt: skip

ENGINES = ("cpu_ddp", "cpu_zero2", "cpu_fsdp")
WITH_FAULTS = "tests.train.killing"


class Cut(BaseException):
    """Where a test cuts a run in this process; nothing catches it."""


def cut():
    raise Cut


# One process, in this process


@pytest.fixture(scope="module")
def straight(demo_words, tmp_path_factory):
    """By mode, the folder of a run that was never cut."""
    folder = tmp_path_factory.mktemp("straight")
    for mode in ("lora", "full"):
        assert train([*cut_words(demo_words, mode), f"output_dir={folder}/{mode}"]) == 0
    return folder


def cut_run(words, *points):
    """Start a run again and again, cut each time at the next point's n-th passing; then to its end."""
    for point, nth in points:
        with installed(Faults(cut, point, nth)), pytest.raises(Cut):
            train(words)
    assert train(words) == 0


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


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("points", CUTS.values(), ids=CUTS)
def test_one_process(straight, demo_words, tmp_path, mode, points):
    cut_run([*cut_words(demo_words, mode), f"output_dir={tmp_path}/run"], *points)
    assert_same_run(tmp_path / "run", straight / mode)


def test_with_data_workers(straight, demo_words, tmp_path):
    cut_run([*cut_words(demo_words, "lora", "data.num_workers=2"), f"output_dir={tmp_path}/run"], ("after rename", 4))
    assert_same_run(tmp_path / "run", straight / "lora")


def test_a_cut_evaluation_is_done_again_and_its_best_is_found(straight, demo_words, tmp_path, monkeypatch):
    """Stopped in an evaluation: saved without it; the next start evaluates before it trains."""
    words = [*cut_words(demo_words), f"output_dir={tmp_path}/run"]
    intact, seen = loop.read_model, []

    def cut_short(forward, dataset, specs, *others, should_stop):
        seen.append(len(specs))
        (tmp_path / "run/STOP").touch()
        assert intact(forward, dataset, specs, *others, should_stop=should_stop) is None

    monkeypatch.setattr(loop, "read_model", cut_short)
    assert train(words) == 85
    monkeypatch.setattr(loop, "read_model", intact)
    assert seen == [3] and status_of(tmp_path / "run")["step"] == 3
    assert not (tmp_path / "run/best").is_symlink()
    assert train(words) == 0
    assert_same_run(tmp_path / "run", straight / "lora")


def test_early_stopping_and_best(demo_words, tmp_path, capsys):
    """A rate of 0 never improves: the first evaluation stays the best, and two more are waited for."""
    extra = ("optim.learning_rate=0", "eval.patience=2", "eval.every_steps=1", "train.max_steps=6", "checkpoint.every_steps=10")
    words = cut_words(demo_words, "lora", *extra)
    assert train([*words, f"output_dir={tmp_path}/run"]) == 0
    assert "eval.patience: 2 evaluations in a row were no better than that of step 1; training ends" in capsys.readouterr().out
    assert status_of(tmp_path / "run") == {"code": 0, "reason": "done", "step": 3}
    assert (tmp_path / "run/best").resolve().name == "step-00000001"
    assert (tmp_path / "run/last").resolve().name == "step-00000003"
    assert (tmp_path / "run/final").is_dir()
    # Cut right before the end: no step is trained beyond it.
    cut_run([*words, f"output_dir={tmp_path}/cut"], ("after prune", 2))
    assert_same_run(tmp_path / "cut", tmp_path / "run")


def test_best_follows_its_metric(demo_words, tmp_path):
    extra = ("checkpoint.best=val/loss/dst_gen", "eval.every_steps=1")
    assert train([*cut_words(demo_words, "full", *extra), f"output_dir={tmp_path}/run"]) == 0
    values = {step: line["loss/dst_gen"] for (split, step), line in curve(tmp_path / "run").items() if split == "val"}
    best = min(values, key=values.get)
    assert (tmp_path / "run/best").resolve().name == f"step-{best:08d}"


def test_patience_counts_evaluations_however_often_they_come(demo_words, tmp_path, monkeypatch):
    """Every two steps, the best at 2 and 4 worse; then, after a cut, every step: 5 is the best, 6 and 7 are not."""
    values, intact = {2: 1.0, 4: 2.0, 5: 0.5, 6: 0.6, 7: 0.7}, loop.TrainLog.evaluation

    def evaluation(log, step, split, metrics):
        metrics["loss"] = values[step]
        intact(log, step, split, metrics)

    monkeypatch.setattr(loop.TrainLog, "evaluation", evaluation)
    words = [*cut_words(demo_words, "lora", "eval.patience=2"), f"output_dir={tmp_path}/run"]
    with installed(Faults(cut, "after prune", 4)), pytest.raises(Cut):
        train([*words, "eval.every_steps=2"])
    assert read_training(tmp_path / "run/last")["progress"]["num_since_best"] == 1
    assert train([*words, "eval.every_steps=1"]) == 0
    progress = read_training(tmp_path / "run/last")["progress"]
    assert (progress["step"], progress["best_step"], progress["num_since_best"]) == (7, 5, 2)


@pytest.mark.parametrize("word", ["checkpoint.best=val/speaking/average_precision", "data.val=[kitchen]", "eval.max_clips=2"])
def test_a_best_measured_otherwise_is_chosen_anew(demo_words, tmp_path, capsys, word):
    """A loss of 20 would stand against every precision, and one of easy clips against all later ones."""
    words = [*cut_words(demo_words, "lora", "eval.every_steps=1"), f"output_dir={tmp_path}/run"]
    with installed(Faults(cut, "after prune", 4)), pytest.raises(Cut):
        train(words)
    assert train([*words, word]) == 0
    out = capsys.readouterr().out
    assert "was measured by val/loss on 3 of the clips " in out and "it is chosen anew" in out
    best = read_training(tmp_path / "run/last")["progress"]["best_step"]
    assert best > 4 and (tmp_path / "run/best").resolve().name == f"step-{best:08d}"


@pytest.mark.parametrize("term, name", [("lm_logits", "lm_loss"), ("speaking_logits", "speaking_logits")])
def test_a_validation_that_is_not_finite_stops_and_is_no_best(demo_words, tmp_path, monkeypatch, term, name):
    intact, calls = loop.forward, []

    def forward(engine, recipe, batch):
        output = intact(engine, recipe, batch)
        if not engine.model.training and engine.rank == 0:
            calls.append(batch)
            return output if len(calls) < 5 else output._replace(**{term: getattr(output, term) * float("nan")})
        return output

    monkeypatch.setattr(loop, "forward", forward)
    assert train([*cut_words(demo_words), f"output_dir={tmp_path}/run"]) == 1
    reason = status_of(tmp_path / "run")["reason"]
    assert re.match(rf"NonFiniteError: evaluation: {name} is not finite in \d clips: garden/garden-val-", reason), reason
    # Three clips an evaluation: the second one, after step 6.
    assert (tmp_path / "run/best").resolve().name == "step-00000003"


def test_every_metric_that_may_be_best_is_measured(demo_words, tmp_path):
    assert train([*cut_words(demo_words, "lora", "eval.max_clips=null"), f"output_dir={tmp_path}/run"]) == 0
    measured = {f"val/{key}" for (split, _), line in curve(tmp_path / "run").items() if split == "val" for key in line}
    allowed = set(get_args(Checkpoint.model_fields["best"].annotation))
    # What is left is no measure of quality.
    assert {key.rpartition("/")[2] for key in measured - allowed if not key.startswith("val/num_")} == {
        "step", "split", "threshold", "base_rate", "base_rate_at_frames",
    }  # fmt: skip
    assert allowed <= measured


def test_far_on_nothing_is_skipped_through(demo_words, tmp_path, monkeypatch):
    """From the start of the command to the end of its first step: after 100,000 steps as after one."""
    words = cut_words(demo_words, "lora", "train.max_steps=100001", "data.val=[]", "checkpoint.every_steps=100000")
    with installed(Faults(cut, AT_WORK, 5)), pytest.raises(Cut):
        train([*words, "checkpoint.every_steps=1", f"output_dir={tmp_path}/1"])
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
    from dst_dist.train.state_files import file_sha256

    training = json.loads((path / "training.json").read_text())
    training["progress"] |= {"step": step}
    (path / "training.json").write_text(json.dumps(training))
    manifest = json.loads((path / "MANIFEST.json").read_text())
    file = path / "training.json"
    manifest["files"]["training.json"] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    path.rename(path.with_name(f"step-{step:08d}"))


# What must be the same


@pytest.fixture(scope="module")
def cut_folder(demo_words, tmp_path_factory):
    """A LoRA run that was cut after its second step."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    with installed(Faults(cut, "after prune", 2)), pytest.raises(Cut):
        train([*cut_words(demo_words), f"output_dir={folder}"])
    return folder


@pytest.fixture
def continued(cut_folder, tmp_path):
    """`continued(words)`: go on with a copy; gives exit code and what status.json says."""

    def go_on(words):
        if not (tmp_path / "run").exists():
            shutil.copytree(cut_folder, tmp_path / "run", symlinks=True)
        code = train([*words, f"output_dir={tmp_path}/run"])
        return code, status_of(tmp_path / "run")["reason"]

    return go_on


@pytest.fixture
def other_data(demo, tmp_path):
    """The demo with one word of one clip changed."""
    shutil.copytree(demo, tmp_path / "data")
    file = tmp_path / "data/kitchen/train_training.json"
    clips = json.loads(file.read_text())
    clips[0]["inferred_goal"] += " again"
    file.write_text(json.dumps(clips))
    return tmp_path / "data"


@pytest.fixture
def other_model(demo, tmp_path):
    """The demo's model with one frozen number changed by its last bit."""
    shutil.copytree(demo / "model", tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("text_model.layers.1.mlp.down_proj.weight"))
    weights[name].view(torch.int32).view(-1)[5] += 1
    save_file(weights, file, metadata={"format": "pt"})
    return tmp_path / "model"


def test_a_changed_key_is_named_and_refused_unless_allowed(continued, demo_words):
    words = cut_words(demo_words, "lora", "optim.learning_rate=1e-3", "loss.lm=2")
    code, reason = continued(words)
    assert code == 2
    assert "loss.lm was 1.5 and is 2.0" in reason and "optim.learning_rate was 0.002 and is 0.001" in reason
    assert "--allow-changed loss.lm --allow-changed optim.learning_rate" in reason
    code, reason = continued([*words, "--allow-changed", "loss.lm"])
    assert code == 2 and "loss.lm" not in reason and "--allow-changed optim.learning_rate" in reason
    assert continued([*words, "--allow-changed", "loss.lm", "--allow-changed", "optim.learning_rate"]) == (0, "done")


def test_what_was_allowed_may_be_allowed_again(continued, demo_words, tmp_path):
    """As a job that is queued again does: stopped before and after the first checkpoint with the changed key."""
    words = [*cut_words(demo_words, "lora", "loss.lm=2", "checkpoint.every_steps=1"), "--allow-changed", "loss.lm"]
    for point in (AT_WORK, "after prune"):
        with installed(Faults(cut, point, 1)), pytest.raises(Cut):
            continued(words)
    assert continued(words) == (0, "done")
    assert (tmp_path / "run/train.log").read_text().count("allowed to differ from the run so far: loss.lm was 1.5") == 2


def test_changed_data_is_refused_unless_allowed(continued, demo_words, other_data):
    words = cut_words(demo_words, "lora", f"data.root={other_data}")
    code, reason = continued(words)
    assert code == 2 and "dataset (the training data: " in reason and reason.endswith("or add --allow-changed dataset")
    assert continued([*words, "--allow-changed", "dataset"]) == (0, "done")


def test_other_pictures_under_the_same_clips_are_refused(continued, demo, demo_words, tmp_path):
    """Two files change places: no clip tells. Then one is gone, and grey frames would stand in."""
    shutil.copytree(demo, tmp_path / "data")
    words = cut_words(demo_words, "lora", f"data.root={tmp_path}/data")
    first, *_, last = sorted((tmp_path / "data/kitchen/frames").glob("*train*.arrow"))
    contents = [path.read_bytes() for path in (first, last)]
    first.write_bytes(contents[1]), last.write_bytes(contents[0])
    code, reason = continued(words)
    assert code == 2 and "dataset (the training data: " in reason
    first.write_bytes(contents[0]), last.unlink()
    code, reason = continued([*words, "data.on_missing=placeholder", "--allow-changed", "data.on_missing"])
    assert code == 2 and "dataset (the training data: " in reason


def test_clips_cut_otherwise_are_refused_by_the_keys_that_cut_them(continued, demo_words):
    words = cut_words(demo_words, "lora", "train.max_frames=8")
    code, reason = continued(words)
    assert code == 2 and "samples (how clips are cut: by data.max_seq_len, train.max_tokens, train.max_frames" in reason
    assert "dataset" not in reason and continued([*words, "--allow-changed", "samples"]) == (0, "done")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_changed_config_or_tokenizer_is_refused_unless_allowed(continued, demo, demo_words, file):
    """The same name and weights: nothing else would tell."""
    path, words = demo / "model" / file, cut_words(demo_words)
    kept = path.read_text()
    content = json.loads(kept)
    if file == "config.json":
        content["text_config"]["rms_norm_eps"] = 0.5
    else:
        vocabulary = content["model"]["vocab"]
        vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    path.write_text(json.dumps(content))
    try:
        code, reason = continued(words)
        allowed = continued([*words, "--allow-changed", "model"])
    finally:
        path.write_text(kept)
    assert code == 2 and "model (the model's config and tokenizer) was" in reason
    assert allowed == (0, "done")


def test_a_changed_frozen_weight_is_refused_unless_allowed(continued, demo, other_model, demo_words, tmp_path):
    """The same recipe, but the folder it names has other weights now: only their hash tells."""
    words = cut_words(demo_words)
    saved = tmp_path / "saved"
    (demo / "model/model.safetensors").rename(saved)
    shutil.copy(other_model / "model.safetensors", demo / "model/model.safetensors")
    try:
        code, reason = continued(words)
        allowed = continued([*words, "--allow-changed", "frozen"])
    finally:
        saved.replace(demo / "model/model.safetensors")
    assert code == 2 and "frozen (the frozen base weights) was" in reason and "--allow-changed frozen" in reason
    assert allowed == (0, "done")


def test_another_model_is_refused(continued, demo_words, other_model):
    code, reason = continued(cut_words(demo_words, "lora", f"model.name_or_path={other_model}"))
    assert code == 2 and "model.name_or_path was" in reason and "frozen (the frozen base weights) was" in reason


def test_other_trained_parameters_are_refused_even_if_allowed(continued, demo_words):
    words = cut_words(demo_words, "lora", "finetune.train.connector=false")
    keys = ("finetune.train.connector", "frozen")
    code, reason = continued([*words, *itertools.chain(*(("--allow-changed", key) for key in keys))])
    assert code == 2 and "other parameters are trained now" in reason and "connector" in reason


def test_what_does_not_change_the_training_is_free(continued, demo_words):
    words = cut_words(demo_words, "lora", "eval.every_steps=2", "checkpoint.keep=5", "log.every_steps=3", "train.max_frames=64")
    assert continued(words) == (0, "done")


# Nothing but tensors and JSON is read


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_pickles_in_a_checkpoint_and_in_final_are_never_run(continued, demo_words, tmp_path):
    sprung = tmp_path / "sprung"
    continued([*cut_words(demo_words), "train.max_steps=3"])  # refused; makes the copy
    checkpoint = (tmp_path / "run/last").resolve()
    for name in ("optimizer.pt", "pytorch_model.bin", "mp_rank_00_model_states.pt", ".metadata", "state-00007.safetensors"):
        (checkpoint / name).write_bytes(pickle.dumps(Trap(sprung)))
    assert continued(cut_words(demo_words)) == (0, "done")
    final = tmp_path / "run/final"
    assert {path.suffix for path in final.iterdir()} <= {".safetensors", ".json", ".jinja", ".txt", ".md"}
    for name in ("adapter_model.bin", "pytorch_model.bin"):
        (final / name).write_bytes(pickle.dumps(Trap(sprung)))
    start = [f"model.name_or_path={final}", "train.max_steps=1", "data.val=[]"]
    assert train([*cut_words(demo_words, "lora", *start), f"output_dir={tmp_path}/next"]) == 0
    # Where the pickle is all there is, it is refused.
    (final / "adapter_model.safetensors").unlink()
    assert train([*cut_words(demo_words, "lora", *start), f"output_dir={tmp_path}/none"]) == 2
    assert "safetensors only" in status_of(tmp_path / "none")["reason"]
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works"


# Every engine, two processes


LONG_ENGINES = tuple(pytest.param(engine, marks=pytest.mark.long) for engine in ("cpu_zero2_offload", "cpu_fsdp_no_reshard"))


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("engine", [*ENGINES, *LONG_ENGINES])
def test_two_processes(starter, demo_words, tmp_path, engine, mode):
    """Killed as a process does not save (at an epoch's end) or in the middle of accumulation, and continued."""
    words = cut_words(demo_words, mode)
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
    ("zero2", 2), ("fsdp", 4), ("ddp", 1), ("zero2", 4), ("fsdp", 1), ("ddp", 2), ("zero2", 1), ("fsdp", 2), ("ddp", 4)
)  # fmt: skip


def check_chain(starter, demo_words, tmp_path, mode, precision, *places):
    """Two steps in each place, cut, and on in the next; everything is compared with one process that was not cut."""
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
        told = [json.loads((tmp_path / f"loaded-{number}/{rank}.json").read_text()) for rank in range(processes)]
        assert all(one["weights"] == told[0]["weights"] and one["step"] == 2 * number for one in told)
        groups.append([[group[key] for key in GROUP_KEYS] for one in told for group in one["groups"]])
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
    "full-fp32": ("full", "fp32", ("fsdp", 2), ("zero2", 4), ("fsdp", 1)),
    "full-bf16": ("full", "bf16", ("zero2", 2), ("ddp", 2)),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_other_processes_and_engines(starter, demo_words, tmp_path, chain):
    check_chain(starter, demo_words, tmp_path, *chain)


@pytest.mark.long
@pytest.mark.parametrize("mode, precision", itertools.product(("lora", "full"), ("fp32", "bf16")))
def test_through_every_place_and_back(starter, demo_words, tmp_path, mode, precision):
    """The form on disk is of no engine: that each place reads what another wrote, and is read, covers every pair."""
    check_chain(starter, demo_words, tmp_path, mode, precision, *EVERY_PLACE, EVERY_PLACE[0])


def test_another_engine_is_refused_unless_allowed(starter, cut_folder, demo_words, tmp_path):
    shutil.copytree(cut_folder, tmp_path / "run", symlinks=True)
    refused = starter.run("cpu_fsdp", cut_words(demo_words), tmp_path / "run", 1)
    assert refused.status["code"] == 2
    assert "engine (the way to train on several processes) was ddp and is fsdp" in refused.status["reason"]
    assert "--allow-changed engine" in refused.status["reason"]
