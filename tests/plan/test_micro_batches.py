"""The largest micro-batches of a plan, and sizes by hand."""

from types import SimpleNamespace

import numpy as np

from dst_dist.config import Recipe
from dst_dist.data.cutting import SAMPLE_DTYPE
from dst_dist.plan.micro_batches import full_micro_batch, largest_micro_batches, shape_of
from dst_dist.plan.simulate import MicroBatchShape


def dataset(*rows):
    """Return samples of (tokens, frames, supervised tokens, positives and negatives of the first head)."""
    table = np.zeros(len(rows), SAMPLE_DTYPE)
    names = "tokens", "frames", "lm", *SAMPLE_DTYPE.names[-4:-2]
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        table[name] = column
    return SimpleNamespace(samples=table, frame_cost=1, weights=np.ones(len(rows), int), fingerprint="0" * 64)


def recipe_of(max_tokens, max_frames):
    sizes = {"global_batch_size": 3, "max_tokens": max_tokens, "max_frames": max_frames}
    return Recipe.model_validate({"data": {"max_seq_len": max_tokens}, "train": sizes})


def test_a_shape_adds_up_its_samples():
    data = dataset((100, 7, 20, 1, 6), (50, 3, 5, 2, 1), (9, 9, 9, 9, 9))
    assert shape_of(data.samples[[1, 0]]) == MicroBatchShape((50, 100), 10, 25, 10)


def test_the_most_tokens_and_the_most_frames_may_be_in_two_micro_batches():
    data = dataset((100, 1, 10, 1, 0), (10, 50, 2, 1, 49), (20, 20, 2, 1, 19))
    largest = largest_micro_batches(data, 1, recipe_of(100, 50))
    assert largest.by_tokens == MicroBatchShape((100,), 1, 10, 1)
    assert largest.by_frames == MicroBatchShape((10,), 50, 2, 50)
    assert largest.num_a_step == 3
    assert largest_micro_batches(data, 1, recipe_of(200, 100)).num_a_step == 1
    assert largest_micro_batches(data, 3, recipe_of(100, 50)).num_a_step == 1


def test_a_full_micro_batch_is_in_the_measure_of_a_real_one():
    like = MicroBatchShape((500, 500), 100, 200, 110)
    assert full_micro_batch(2500, 1000, like) == MicroBatchShape((1000, 1000, 500), 250, 500, 275)
    assert full_micro_batch(2000, 1000, like) == MicroBatchShape((1000, 1000), 200, 400, 220)
