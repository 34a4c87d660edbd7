"""Short runs that are finished, LoRA and full: their recipe, and how to read their folders."""

import json

import pytest

LORA = ("finetune.mode=lora", "finetune.train.vision=false", "finetune.lora.rank=4", "finetune.lora.alpha=8")


FULL = ("finetune.mode=full",)


def recipe_words(demo_words, folder, *extra):
    """Return the words of a recipe of four steps."""
    return [
        "demo",
        *demo_words,
        "train.max_steps=4",
        "train.global_batch_size=4",
        "data.num_workers=0",
        "optim.learning_rate=2e-3",
        "optim.warmup_steps=2",
        "log.report_to=[]",
        f"output_dir={folder}",
        *extra,
    ]


def lines_of(folder, split):
    """Return the lines of `metrics.jsonl` of one split."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == split]


both = pytest.mark.parametrize("earlier", ["full", "lora"], indirect=True)
"""Run a test with each of the finished runs, as `earlier`."""
