"""The largest micro-batches first: nothing of the run changes, and memory that ends says what to turn."""

import pytest
import torch

from dst_dist.train import probe
from tests.train.finished import FULL, LORA, recipe_words
from tests.train.in_process import train
from tests.train.runs import curve, final_weights, same, status_of

SHORT = ("data.train=[kitchen]", "data.val=[]", "train.max_steps=2")


def assert_same(one, other):
    assert curve(one) == curve(other)
    assert same(final_weights(one), final_weights(other))


@pytest.mark.parametrize("mode", [FULL, (*LORA, "finetune.lora.dropout=0.1")], ids=["full", "lora with dropout"])
def test_a_run_is_the_same_to_the_bit(demo_words, tmp_path, mode):
    for name in ("plain", "probed"):
        words = recipe_words(demo_words, tmp_path / name, *mode, *SHORT, f"train.probe={name == 'probed'}".lower())
        assert train(words) == 0
    assert_same(tmp_path / "plain", tmp_path / "probed")


def test_a_run_under_zero2_is_the_same_to_the_bit(starter, demo_words, tmp_path):
    """DeepSpeed makes moments before its first step and links them to parameters; they are zero again here."""
    for name in ("plain", "probed"):
        words = recipe_words(demo_words, tmp_path / name, *FULL, *SHORT, f"train.probe={name == 'probed'}".lower())
        starter.run("cpu_zero2", words, tmp_path / name).check()
    assert_same(tmp_path / "plain", tmp_path / "probed")


def test_memory_that_ends_is_said_with_the_plan(demo_words, tmp_path, monkeypatch):
    def too_much(*_):
        error = torch.OutOfMemoryError("CUDA out of memory.")
        raise RuntimeError("step 1: out of memory in a micro-batch") from error

    monkeypatch.setattr(probe, "optimizer_step", too_much)
    assert train(recipe_words(demo_words, tmp_path / "run", *SHORT, "train.probe=true")) == 1
    reason = status_of(tmp_path / "run")["reason"]
    assert "train.probe: step 1: out of memory in a micro-batch" in reason
    assert "activations" in reason and "GiB of" in reason and "moments" in reason


def test_another_fault_is_passed_on(demo_words, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(probe, "optimizer_step", broken)
    assert train(recipe_words(demo_words, tmp_path / "run", *SHORT, "train.probe=true")) == 1
    assert status_of(tmp_path / "run")["reason"] == "RuntimeError: something else"
