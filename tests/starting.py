"""Starts of a run on hand-made data, and whether they read it or found what an earlier start kept."""

import itertools
import os
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import dst_dist.setup
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup

_ages_s = itertools.count(100_000, -60)


def settle(root: Path) -> None:
    """Give everything below a folder that was written just now a time in the past, later than all given before."""
    age_s = next(_ages_s)
    for path in root.rglob("*"):
        if path.is_file() and path.parent.name != ".dst_dist" and path.stat().st_mtime > time.time() - 50:
            os.utime(path, (time.time() - age_s,) * 2)


class Start:
    """A start in this process: what it gave, and the splits that it read and cut."""

    def __init__(self, words):
        with noting_reads() as self.read:
            self.setup = DataSetup(load_recipe(words))
            self.checks = self.setup.check()
            self.datasets = self.setup.datasets(self.checks)
        self.data = self.datasets["train"]

    @property
    def content(self):
        """Everything that another start on the same data must give too."""
        return {split: content_of(data) for split, data in self.datasets.items()}


@contextmanager
def noting_reads():
    """Yield a list to which the names of splits are added when they are read."""
    read, read_split = [], dst_dist.setup.read_split
    dst_dist.setup.read_split = lambda data, split, *more: (read.append(split), read_split(data, split, *more))[1]
    try:
        yield read
    finally:
        dst_dist.setup.read_split = read_split


def content_of(data):
    clips = data.clips
    return {
        "samples": data.samples.tolist(),
        "dtype": data.samples.dtype,
        "clips": list(clips.index),
        "arrays": {name: values.tolist() for name, values in clips.index.arrays.items()},
        "fingerprints": (data.fingerprint, data.digests(), clips.index.fingerprint()),
        "notes": data.notes,
        "weights": data.weights.tolist(),
        "missing": clips.missing,
        "files": clips.files,
        "classes": data.expected_classes(),
    }


def batches_equal(one, other) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("input_ids", "frames", "lm_positions", "lm_targets", "decision_positions", "decision_frames")
    )
