"""Training with `auto`: what is chosen stands in the log and in config.yaml, and a run that goes on keeps it."""

import yaml

from dst_dist.plan import auto
from dst_dist.plan.simulate import MicroBatchMemory
from tests.train.finished import recipe_words
from tests.train.in_process import train

WORDS = ("data.train=[kitchen]", "data.val=[]", "train.gradient_checkpointing=auto", "train.max_tokens=auto")


def chosen(folder):
    values = yaml.safe_load((folder / "config.yaml").read_text())["train"]
    return values["gradient_checkpointing"], values["max_tokens"]


def test_a_choice_is_written_down_and_kept(demo_words, tmp_path, monkeypatch):
    monkeypatch.setattr("dst_dist.plan.fit.micro_batch_memory", lambda *_: MicroBatchMemory(0, 0, 10**6))
    words = recipe_words(demo_words, tmp_path / "run", *WORDS)
    assert train([*words, "train.max_steps=1"]) == 0
    assert chosen(tmp_path / "run") == (False, 16384), "four samples of 4,096 tokens are a global batch"
    log = (tmp_path / "run/train.log").read_text()
    assert "micro-batches of at most 16384 tokens and 2048 frames, gradient checkpointing off" in log
    # Another machine, on which nothing fits: the choice of the first start is kept.
    monkeypatch.setattr(auto, "device_memory", lambda device: 1)
    assert train([*words, "train.max_steps=1", "log.every_steps=1"]) == 0
    assert chosen(tmp_path / "run") == (False, 16384)
    assert train(recipe_words(demo_words, tmp_path / "other", *WORDS)) == 2


def test_a_small_device_turns_checkpointing_on(demo_words, tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "device_memory", lambda device: 1)
    words = recipe_words(demo_words, tmp_path / "run", "data.train=[kitchen]", "data.val=[]", "train.max_steps=1")
    assert train([*words, "train.gradient_checkpointing=auto"]) == 0
    assert chosen(tmp_path / "run") == (True, 8192)
