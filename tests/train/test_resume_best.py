"""The best checkpoint, and early stopping, also when a run is cut and resumed."""

from typing import get_args

import pytest

from dst_dist.config import Checkpoint
from dst_dist.errors import ConfigError
from dst_dist.train import loop
from dst_dist.train.checkpoint import read_training
from dst_dist.train.resume import Progress
from tests.train.cutting import Cut, cut, cut_run
from tests.train.in_process import train
from tests.train.killing import Faults, installed
from tests.train.runs import assert_same_run, curve, cut_words, status_of


def test_early_stopping_and_best(demo_words, tmp_path, capsys):
    """With a learning rate of 0 the first evaluation stays the best; the run ends after two more."""
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

    def evaluation(log, step, metrics):
        metrics["loss"] = values[step]
        intact(log, step, metrics)

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
def test_the_best_is_chosen_anew_when_it_is_measured_in_another_way(demo_words, tmp_path, capsys, word):
    """A loss of 20 cannot be compared with a precision, nor a loss on easy clips with one on others."""
    words = [*cut_words(demo_words, "lora", "eval.every_steps=1"), f"output_dir={tmp_path}/run"]
    with installed(Faults(cut, "after prune", 4)), pytest.raises(Cut):
        train(words)
    assert train([*words, word]) == 0
    out = capsys.readouterr().out
    assert "was measured by val/loss on 3 of the clips " in out and "it is chosen anew" in out
    best = read_training(tmp_path / "run/last")["progress"]["best_step"]
    assert best > 4 and (tmp_path / "run/best").resolve().name == f"step-{best:08d}"


def test_an_evaluation_without_the_metric_is_not_the_best():
    """A head that decides nothing has no precision, but may have one later. A metric that never comes is an error."""
    silent = {"speaking/threshold": 0.5, "speaking/recall": 0.0}
    spoken, progress = silent | {"speaking/precision": 0.25}, Progress()
    for step, metrics, is_best in ((1, silent, False), (2, spoken, True), (3, silent, False)):
        progress.step = step
        assert progress.note_evaluation(metrics, "speaking/precision") == is_best
        assert progress.evaluated_step == step
    assert (progress.best_step, progress.best_value) == (2, 0.25)
    for name in ("dst_update/precision", "lm/perplexity"):
        with pytest.raises(ConfigError, match=f"no metric val/{name}; there are speaking/recall, speaking/threshold"):
            progress.note_evaluation(silent, name)


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
