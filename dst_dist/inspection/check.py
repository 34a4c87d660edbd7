"""`dst-dist check`: everything about a recipe's data that training finds at its start, and what the data holds."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dst_dist.data.dataset import SampleDataset
from dst_dist.heads import HEAD_NAMES
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup

SPLITS = ("train", "val", "test")
BINS, BAR = 10, 40
"""Sizes of a histogram: its bins, and the width of its longest bar in characters."""


def check_data(words: Sequence[str]) -> dict[str, Any]:
    """Check all data of a recipe, and return what each split holds.

    What was looked at is kept, and training's start finds it.

    Raises:
        ConfigError: if recipe or model cannot be used.
        DataError: with every fault of files, clips, turns and frames.
    """
    # All cores, whatever a recipe leaves to its training; a word still says otherwise.
    setup = DataSetup(load_recipe(["data.num_workers=auto", *words]), SPLITS)
    datasets = setup.datasets(setup.check())
    return {split: _summary(data) for split, data in datasets.items()}


def _summary(data: SampleDataset) -> dict[str, Any]:
    table, index = data.samples, data.clips.index
    classes = data.expected_classes()
    return {
        "clips": len(index),
        "videos": len(index.videos()),
        "samples": len(table),
        "tokens": int(table["tokens"].sum()),
        "frames": int(table["frames"].sum()),
        "datasets": _by_dataset(data),
        "heads": {head: {"positives": yes, "negatives": no} for head, (yes, no) in classes.items()},
        "lengths": {name: _histogram(table[name]) for name in ("tokens", "frames")},
        "notes": data.notes,
    }


def _by_dataset(data: SampleDataset) -> dict[str, dict[str, int]]:
    """Return clips, samples, tokens, frames and positives of each dataset, by the first folder of its frames files."""
    table = data.samples
    of_clip = np.array([video.split(b"/")[0] for video in data.clips.index.arrays["videos"].tolist()])
    of_sample = of_clip[table["clip"]]
    found = {}
    for name in np.unique(of_clip):
        rows = table[of_sample == name]
        found[name.decode()] = {
            "clips": int((of_clip == name).sum()),
            "samples": len(rows),
            "tokens": int(rows["tokens"].sum()),
            "frames": int(rows["frames"].sum()),
            **{f"{head} positives": int(rows[f"{head}_positives"].sum()) for head in HEAD_NAMES},
        }
    return found


def _histogram(lengths: np.ndarray) -> dict[str, list[int]]:
    """Return how many samples are in each of BINS equal stretches from 0 to the longest; `edges` are their ends."""
    numbers, edges = np.histogram(lengths, BINS, (0, max(1, int(lengths.max()))))
    return {"samples": numbers.tolist(), "edges": np.ceil(edges[1:]).astype(int).tolist()}


def lines_of(found: dict[str, Any]) -> Iterator[str]:
    """Yield what `check_data` returned as lines for people."""
    for split, about in found.items():
        yield (
            f"{split}: {about['clips']} clips of {about['videos']} videos, {about['samples']} samples, "
            f"{about['tokens']} tokens, {about['frames']} frames"
        )
        for name, counts in about["datasets"].items():
            yield f"  {name}: " + ", ".join(f"{number} {what}" for what, number in counts.items())
        for head, counts in about["heads"].items():
            total = max(1, sum(counts.values()))
            yield (
                f"  {head}: {counts['positives']:.0f} positives and {counts['negatives']:.0f} negatives an epoch, "
                f"{counts['positives'] / total:.1%} positive"
            )
        for what, histogram in about["lengths"].items():
            yield f"  {what} of a sample, up to:"
            longest = max(histogram["samples"])
            for number, edge in zip(histogram["samples"], histogram["edges"], strict=True):
                yield f"  {edge:>10} {'#' * -(-BAR * number // longest):{BAR}} {number}"
        yield from (f"  {note}" for note in about["notes"])
    yield "no fault was found"
