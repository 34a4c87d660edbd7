"""The best checkpoint, and stopping where none gets better: of one measure, also over a cut."""

import re
from typing import get_args

import pytest

from dst_dist.config import Checkpoint
from dst_dist.train import loop, validation
from dst_dist.train.checkpoint import read_training
from tests.train.cutting import Cut, cut, cut_run
from tests.train.in_process import train
from tests.train.killing import Faults, installed
from tests.train.runs import assert_same_run, curve, cut_words, status_of


def test_early_stopping_and_best(demo_words, tmp_path, capsys):
    """A rate of 0 never improves: the first evaluation stays the best, and two more are waited for."""
    extra = (
        "optim.learning_rate=0",
        "eval.patience=2",
        "eval.every_steps=1",
        "train.max_steps=6",
        "checkpoint.every_steps=10",
    )
    words = cut_words(demo_words, "lora", *extra)
    assert train([*words, f"output_dir={tmp_path}/run"]) == 0
    assert (
        "eval.patience: 2 evaluations in a row were no better than that of step 1; training ends"
        in capsys.readouterr().out
    )
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


@pytest.mark.parametrize(
    "word", ["checkpoint.best=val/speaking/average_precision", "data.val=[kitchen]", "eval.max_clips=2"]
)
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


def with_nan(output, name):
    """The output with NaN for all logits that `name` is read from."""
    if name == "lm_loss":
        return output._replace(lm_logits=output.lm_logits * float("nan"))
    head = name.removesuffix("_logits")
    logits = {**output.decision_logits, head: output.decision_logits[head] * float("nan")}
    return output._replace(decision_logits=logits)


@pytest.mark.parametrize("name", ["lm_loss", "speaking_logits"])
def test_a_validation_that_is_not_finite_stops_and_is_no_best(demo_words, tmp_path, monkeypatch, name):
    intact, calls = validation.forward, []

    def forward(engine, recipe, batch):
        output = intact(engine, recipe, batch)
        if not engine.model.training and engine.rank == 0:
            calls.append(batch)
            return output if len(calls) < 5 else with_nan(output, name)
        return output

    monkeypatch.setattr(validation, "forward", forward)
    assert train([*cut_words(demo_words), f"output_dir={tmp_path}/run"]) == 1
    reason = status_of(tmp_path / "run")["reason"]
    assert re.match(rf"NonFiniteError: evaluation: {name} is not finite in \d clips: garden/garden-val-", reason), (
        reason
    )
    # Three clips an evaluation: the second one, after step 6.
    assert (tmp_path / "run/best").resolve().name == "step-00000003"


def test_every_metric_that_may_be_best_is_measured(demo_words, tmp_path):
    assert train([*cut_words(demo_words, "lora", "eval.max_clips=null"), f"output_dir={tmp_path}/run"]) == 0
    measured = {f"val/{key}" for (split, _), line in curve(tmp_path / "run").items() if split == "val" for key in line}
    allowed = set(get_args(Checkpoint.model_fields["best"].annotation))
    # What is left is no measure of quality.
    assert {key.rpartition("/")[2] for key in measured - allowed if not key.startswith("val/num_")} == {
        "step",
        "split",
        "threshold",
        "base_rate",
        "base_rate_at_frames",
    }
    assert allowed <= measured
