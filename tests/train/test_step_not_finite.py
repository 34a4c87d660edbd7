"""A loss or gradient that is not a number stops every process before the update, and says where it came from."""

import json
import re

import pytest
import torch
from accelerate.state import AcceleratorState

from dst_dist.train import __main__ as program
from dst_dist.train import loop
from dst_dist.train import step as step_module
from dst_dist.train.engine import Engine
from tests.launching import TINY_RUN
from tests.train import not_finite

EXTRA = ("train.max_steps=6", "train.global_batch_size=4", "optim.warmup_steps=2", "eval.every_steps=100")
SAMPLE = r"(?:kitchen|workshop|garden)/\w+-train-\d+/\d+"


def test_a_term_on_one_of_two_processes_stops_both(starter, demo_words, tmp_path):
    run = starter.run(
        "cpu_ddp", [*TINY_RUN, *demo_words, *EXTRA], tmp_path / "run", module=("tests.train.not_finite", "loss")
    )
    assert run.returncode == 1
    status = run.status
    assert (status["code"], status["step"]) == (1, not_finite.STEP - 1)
    reason = (
        rf"NonFiniteError: step {not_finite.STEP}: loss is not finite: dst_gen of ({SAMPLE})(, {SAMPLE})* on process 1"
    )
    assert re.fullmatch(reason, status["reason"]), status["reason"]
    assert [line["step"] for line in run.metrics()] == list(range(1, not_finite.STEP))
    assert not (run.folder / "final").exists()
    # Told once, though both processes stop.
    assert run.output.count("NonFiniteError: step") == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [("loss", "loss is not finite: dst_gen of"), ("gradient", "the gradient is not finite; the step's samples:")],
)
def test_the_weights_are_those_of_the_step_before(demo_words, tmp_path, monkeypatch, capsys, kind, words):
    weights = []
    intact_step, intact_prepare = Engine.step, Engine.prepare

    def prepare(engine, model, optimizer):
        intact_prepare(engine, model, optimizer)
        weights.append(dict(engine.unwrapped.named_parameters()))

    def step(engine):
        intact_step(engine)
        weights.append({name: value.detach().clone() for name, value in weights[0].items()})

    monkeypatch.setattr(Engine, "prepare", prepare)
    monkeypatch.setattr(Engine, "step", step)
    monkeypatch.setattr(step_module, "compute_loss", step_module.compute_loss)
    monkeypatch.setattr("dst_dist.logs.set_up_logging", lambda is_main: None)
    monkeypatch.setattr(loop, "add_log_file", lambda run: None)
    not_finite.poison(kind, rank="0")
    assert program.main([*TINY_RUN, *demo_words, *EXTRA, f"output_dir={tmp_path}/run"]) == 1
    AcceleratorState._reset_state(reset_partial_state=True)
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["step"] == not_finite.STEP - 1
    assert status["reason"].startswith(f"NonFiniteError: step {not_finite.STEP}: {words} ")
    # The second step has four samples, all in one micro-batch.
    assert len(set(re.findall(SAMPLE, status["reason"]))) == 4
    assert len(weights) == 1 + not_finite.STEP - 1
    assert all(torch.equal(value, weights[-1][name]) for name, value in weights[0].items())
    assert all(torch.isfinite(value).all() for value in weights[0].values())
