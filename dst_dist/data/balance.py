"""Tells how evenly a batch plan spreads its work over processes."""

import numpy as np

from dst_dist.data.batching import TOKENS_PER_FRAME_COST, BatchPlan, pack
from dst_dist.data.samples import Limits

NUM_STEPS = 3
"""Optimizer steps that are looked at."""


def slowest_over_mean(plan: BatchPlan, samples: np.ndarray, limits: Limits, num_processes: int) -> float:
    """Return the work that a plan's first steps wait for, over the mean work of a process; 1 is perfect balance.

    Processes wait for each other in every round of micro-batches, so the slowest of each round counts.

    Args:
        samples: the dataset's table of samples, with fields `tokens` and `frames`.
    """
    cost = samples["tokens"] + TOKENS_PER_FRAME_COST * samples["frames"].astype(np.int64)
    slowest, mean = 0.0, 0.0
    for _, _, draws in plan.steps(0, NUM_STEPS):
        dealt = pack(draws, samples["tokens"], samples["frames"], limits, num_processes)
        work = np.array([[cost[[draw.sample for draw in members]].sum() for members in own] for own in dealt])
        slowest += work.max(axis=0).sum()
        mean += work.sum() / num_processes
    return float(slowest / mean)
