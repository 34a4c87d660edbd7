"""Memory that is not enough says what to turn; a step says what share of the cards' arithmetic it used."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dst_dist.data.cutting import SAMPLE_DTYPE
from dst_dist.model.operations import Costs
from dst_dist.train import progress, step
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


def test_the_share_of_the_cards_arithmetic_by_hand(monkeypatch):
    """Two samples, 2 s, two cards of 5,000 operations a second.

    3 + 2 tokens, 6 + 3 pairs, 4 supervised tokens, 3 decisions, 2 frames.
    """
    samples = np.zeros(3, dtype=SAMPLE_DTYPE)
    for name, values in {"tokens": [3, 9, 2], "frames": [1, 9, 1], "lm": [2, 9, 2]}.items():
        samples[name] = values
    samples["dst_update_positives"], samples["dst_update_negatives"] = [1, 9, 0], [1, 9, 1]
    monkeypatch.setattr(step.time, "perf_counter", lambda: 7.0)
    watch = SimpleNamespace(started_s=5.0, waited_s=0.5)
    costs = Costs(token=1000, pair=100, lm_position=10, decision=1, connector=20, tower=7)
    done = 5 * 1000 + 9 * 100 + 4 * 10 + 3 * 1 + 2 * (20 + 7)
    data = SimpleNamespace(samples=samples)
    values = step.sizes(data, [0, 2], watch, costs, peak=2 * 5000.0)
    assert values["mfu"] == pytest.approx(done / 2 / 10_000)
    assert values["num_tokens"] == 5 and values["tokens_per_s"] == 2.5
    assert "mfu" not in step.sizes(data, [0, 2], watch, costs, peak=None)


def test_the_log_line_has_the_share_where_it_is_known():
    keys = ("loss", "learning_rate", "grad_norm", "tokens_per_s", "frames_per_s", "data_wait_share", "max_seq_len")
    values = dict.fromkeys((*keys, "peak_memory_gib"), 1.0)
    values |= {f"num_{head}_{kind}": 1 for head in step.HEAD_NAMES for kind in ("positives", "negatives")}
    assert "frames/s, mfu 34.1%, 100% waiting" in progress._train_line(1, 2, values | {"mfu": 0.3412})
    assert "frames/s, 100% waiting" in progress._train_line(1, 2, values)
