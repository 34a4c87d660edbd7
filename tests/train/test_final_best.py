"""`checkpoint.final=best`: `final/` is the best checkpoint's model, also of a run that is over, on every engine."""

import json
import re
import shutil

import pytest
import torch

from dst_dist.config import Checkpoint
from dst_dist.errors import ConfigError
from dst_dist.recipes.loading import load_recipe
from dst_dist.train import final, loop
from dst_dist.train.resume import Progress
from tests.launching import TINY_RUN
from tests.train.cutting import Cut, cut
from tests.train.in_process import train
from tests.train.runs import curve, cut_words, final_weights, same, status_of, whole_state

ADAPTED = re.compile(r"^base_model\.model\.|\.modules_to_save|\.default")
"""What peft adds to the names of tensors, and takes away in an adapter's file."""
BEST = "checkpoint.final=best"
LOSSES = {3: 0.5, 6: 0.9, 7: 0.8}
"""Step -> the loss that validation finds: step 3 is the best, and 7 the last."""


@pytest.fixture(autouse=True)
def best_at_step_3(request, monkeypatch):
    if "starter" in request.fixturenames:
        return
    intact = loop.TrainLog.evaluation

    def evaluation(log, step, metrics):
        metrics["loss"] = LOSSES[step]
        intact(log, step, metrics)

    monkeypatch.setattr(loop.TrainLog, "evaluation", evaluation)


def is_model_of(folder, step):
    """Return whether `final/` has the weights of a checkpoint's trained tensors and its validation's thresholds."""
    state, weights = whole_state(folder / f"checkpoints/step-{step:08d}"), final_weights(folder)
    trained = {name.removesuffix("/weight"): values for name, values in state.items() if name.endswith("/weight")}
    stored = {name.removeprefix("base_model.model."): values.flatten() for name, values in weights.items()}
    are_equal = all(torch.equal(stored[ADAPTED.sub("", name)], values) for name, values in trained.items())
    settings = json.loads((folder / "final/config.json").read_text())
    line = curve(folder)["val", step]
    chosen = {"dst_threshold": line["dst_update/threshold"], "speaking_threshold": line["speaking/threshold"]}
    return are_equal and all(settings[name] == value for name, value in chosen.items())


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("extra", [(), ("train.precision=bf16",), ("eval.patience=1",)], ids=["float", "bf16", "early"])
def test_final_is_the_best(demo_words, tmp_path, capsys, mode, extra):
    words = [*cut_words(demo_words, mode, *extra), f"output_dir={tmp_path}/run"]
    last = 6 if "eval.patience=1" in extra else 7
    assert train([*words, BEST]) == 0
    assert f"final/ is the model of step 3, the best by val/loss; the last step was {last}" in capsys.readouterr().out
    assert is_model_of(tmp_path / "run", 3) and not is_model_of(tmp_path / "run", last)
    assert status_of(tmp_path / "run") == {"code": 0, "reason": "done", "step": last}


def test_a_run_that_is_over_gives_the_other_model_without_a_step(demo_words, tmp_path, capsys):
    """Either way, as often as wanted, with the same bits; the training's record stays as it is."""
    words, run = [*cut_words(demo_words), f"output_dir={tmp_path}/run"], tmp_path / "run"
    assert train(words) == 0
    assert "step 3, whose model the same command with checkpoint.final=best writes" in capsys.readouterr().out
    record, last, found = (run / "metrics.jsonl").read_bytes(), final_weights(run), []
    for more, step in ((BEST,), 3), ((), 7), ((BEST,), 3):
        assert train([*words, *more]) == 0
        assert is_model_of(run, step)
        found.append(final_weights(run))
        assert train([*words, *more]) == 0
        assert "trained to its end already" in capsys.readouterr().out
    assert same(found[0], found[2]) and same(found[1], last) and not same(found[0], last)
    assert (run / "metrics.jsonl").read_bytes() == record
    assert (run / "last").resolve().name == "step-00000007" and (run / "best").resolve().name == "step-00000003"


def test_a_change_that_is_cut_is_made_by_the_next_start(demo_words, tmp_path, monkeypatch):
    words, run = [*cut_words(demo_words), f"output_dir={tmp_path}/run"], tmp_path / "run"
    assert train(words) == 0
    with monkeypatch.context() as patched:
        patched.setattr(final, "save_model", lambda *_: cut())
        with pytest.raises(Cut):
            train([*words, BEST])
    assert is_model_of(run, 7) and (run / ".goes-on").exists()
    assert train([*words, BEST]) == 0
    assert is_model_of(run, 3) and not (run / ".goes-on").exists()


def test_a_best_that_is_damaged_is_no_final(demo_words, tmp_path, capsys):
    words, run = [*cut_words(demo_words), f"output_dir={tmp_path}/run"], tmp_path / "run"
    assert train(words) == 0
    with open(next((run / "best").glob("state-*")), "r+b") as file:
        file.seek(-1, 2)
        (last,) = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    assert train([*words, BEST]) == 2
    assert re.search("step-00000003, the best, cannot be used: state-.* was changed; set it", capsys.readouterr().err)
    assert is_model_of(run, 7)
    assert train(words) == 0
    assert not (run / ".goes-on").exists()


def test_a_run_without_checkpoints_has_no_best(demo_words, tmp_path, capsys):
    """Training again from the first step would be a surprise of days."""
    words, run = [*cut_words(demo_words), f"output_dir={tmp_path}/run"], tmp_path / "run"
    assert train(words) == 0
    shutil.rmtree(run / "checkpoints")
    assert train([*words, BEST]) == 2
    assert "is finished and has no checkpoint to go on from, or to take the best of" in capsys.readouterr().err
    assert (run / "final/config.json").is_file()


def test_the_best_needs_validation(demo_words):
    with pytest.raises(ConfigError, match="best is chosen by validation, and data.val is empty"):
        load_recipe([*cut_words(demo_words), BEST, "data.val=[]"])


def test_where_no_evaluation_was_the_best_the_last_step_is_taken_with_a_warning(caplog):
    """The metric of a head that never decides does not come."""
    progress = Progress(step=7, evaluated_step=7)
    assert final.load_chosen(None, None, Checkpoint(final="best"), progress) is progress
    assert "no evaluation was the best by val/loss; final/ is of the last step" in caplog.text


@pytest.mark.parametrize("engine", ["cpu_ddp", "cpu_zero2", "cpu_fsdp"])
def test_every_engine_gives_its_best(starter, engine, demo_words, tmp_path):
    """Two processes in bf16 at a rate that makes a loss worse soon; each engine has other copies of its weights."""
    words = (
        *TINY_RUN,
        *demo_words,
        "data.train=[kitchen]",
        "data.val=[garden]",
        "train.precision=bf16",
        "train.global_batch_size=4",
        "train.max_steps=6",
        "optim.learning_rate=0.3",
        "optim.warmup_steps=0",
        "eval.every_steps=1",
        "checkpoint.every_steps=6",
        "checkpoint.keep=2",
        BEST,
    )
    starter.run(engine, words, tmp_path / "run").check()
    best = int((tmp_path / "run/best").resolve().name.removeprefix("step-"))
    assert best < 6 and is_model_of(tmp_path / "run", best) and not is_model_of(tmp_path / "run", 6)
