"""Validation during training: outputs that are not finite, and a micro-batch that is too much for the memory."""

import re

import pytest

from dst_dist.train import validation
from tests.train.in_process import train
from tests.train.runs import cut_words, status_of
from tests.train.test_step import out_of_memory


def spoil_text(output):
    return {"lm_logits": output.lm_logits * float("nan")}


def spoil_speaking(output):
    logits = output.decision_logits
    return {"decision_logits": logits | {"speaking": logits["speaking"] * float("nan")}}


@pytest.mark.parametrize("spoiled, name", [(spoil_text, "lm_loss"), (spoil_speaking, "speaking_logits")])
def test_an_output_that_is_not_finite_stops_the_run_and_is_not_the_best(
    demo_words, tmp_path, monkeypatch, spoiled, name
):
    intact, calls = validation.forward, []

    def forward(engine, recipe, batch):
        output = intact(engine, recipe, batch)
        calls.append(batch)
        return output if len(calls) < 5 else output._replace(**spoiled(output))

    monkeypatch.setattr(validation, "forward", forward)
    assert train([*cut_words(demo_words), f"output_dir={tmp_path}/run"]) == 1
    reason = status_of(tmp_path / "run")["reason"]
    assert re.match(rf"NonFiniteError: evaluation: {name} is not finite in \d clips: garden/garden-val-", reason)
    # Three clips an evaluation: the second one, after step 6.
    assert (tmp_path / "run/best").resolve().name == "step-00000003"


def test_out_of_memory_in_an_evaluation_names_its_micro_batch(demo_words, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "forward", out_of_memory)
    assert train([*cut_words(demo_words), f"output_dir={tmp_path}/run"]) == 1
    reason = status_of(tmp_path / "run")["reason"]
    assert "out of memory in a micro-batch of 1 samples, " in reason
    assert "(garden/garden-val-" in reason and "train.max_frames" in reason
