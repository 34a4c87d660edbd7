"""Balance of a plan's work, computed by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from dst_dist.data.balance import slowest_over_mean
from dst_dist.data.batching import ENCODED_FRAME_COST, BatchPlan
from dst_dist.data.cutting import SAMPLE_DTYPE
from dst_dist.data.samples import Limits

LIMITS = Limits(1000, 100)


def ratio(tokens, num_processes, frames=0, limits=LIMITS, global_batch_size=None):
    table = np.zeros(len(tokens), SAMPLE_DTYPE)
    table["tokens"], table["frames"] = tokens, frames
    plan = BatchPlan(np.ones(len(tokens), int), global_batch_size or len(tokens), 0, "ab" * 32)
    data = SimpleNamespace(samples=table, frame_cost=ENCODED_FRAME_COST)
    return slowest_over_mean(plan, data, limits, num_processes)


def test_one_clip_a_process_waits_for_the_longest():
    """300 and 100 tokens: three to one, and 300 over the mean of 200."""
    assert ratio([300, 100], 2) == 1.5
    assert ratio([300, 100, 100, 100], 4) == 2.0
    assert ratio([300, 100, 100, 100], 2) == 1.0


def test_a_process_without_a_clip_does_nothing():
    assert ratio([100, 100], 3) == 1.5


def test_the_slowest_of_every_round_counts():
    """Two rounds on two processes, 90 next to 80 and 70 next to 60: 160 of 150."""
    assert ratio([90, 80, 70, 60], 2, limits=Limits(100, 100)) == pytest.approx(160 / 150)


def test_frames_are_work():
    heavy, light = 3 * ENCODED_FRAME_COST + 10, ENCODED_FRAME_COST + 10
    assert ratio([10, 10], 2, frames=[3, 1]) == pytest.approx(heavy / ((heavy + light) / 2))


def test_one_process_never_waits_and_a_short_epoch_is_enough():
    assert ratio([500, 20, 30], 1, global_batch_size=2) == 1.0
