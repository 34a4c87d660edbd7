"""A micro-batch that is too much for the memory says which it was and what to turn."""

import json

import torch

from dst_dist.train import step
from dst_dist.train.engine import Engine
from tests.train.in_process import train
from tests.train.runs import cut_words


def test_out_of_memory_names_the_micro_batch_and_the_keys(demo_words, tmp_path, monkeypatch):
    intact, calls = step.compute_loss, []

    def compute_loss(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return intact(*arguments)

    monkeypatch.setattr(step, "compute_loss", compute_loss)
    words = [*cut_words(demo_words, "lora", "train.max_frames=32"), f"output_dir={tmp_path}/run"]
    assert train(words) == 1
    status = json.loads((tmp_path / "run/status.json").read_text())
    # Steps of 4, 4 and 1 samples, at most two in a micro-batch: the sixth is the first of the second epoch.
    assert status["step"] == 3
    assert status["reason"].startswith("RuntimeError: step 4: out of memory in a micro-batch of 2 samples, ")
    assert "tokens and 32 frames (kitchen/kitchen-train-" in status["reason"]
    for key in ("train.max_tokens", "train.max_frames", "train.gradient_checkpointing", "model.vision_batch_size"):
        assert key in status["reason"]
    assert "Tried to allocate 20.00 GiB" in status["reason"]
    # What it says to turn may be turned.
    monkeypatch.setattr(step, "compute_loss", intact)
    assert train([*words, "train.max_frames=16", "train.max_tokens=400"]) == 0


def out_of_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_out_of_memory_in_the_update_names_what_would_make_it_smaller(demo_words, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "step", out_of_memory)
    assert train([*cut_words(demo_words), f"output_dir={tmp_path}/run"]) == 1
    reason = json.loads((tmp_path / "run/status.json").read_text())["reason"]
    assert (
        reason.startswith("RuntimeError: step 1: out of memory in the update") and "launch/zero2_offload.yaml" in reason
    )
