"""Tells how evenly a batch plan spreads its work over processes."""

import numpy as np

from dst_dist.data.batching import BatchPlan, pack
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Limits

NUM_STEPS = 3
"""Optimizer steps that are looked at."""


def slowest_over_mean(plan: BatchPlan, data: SampleDataset, limits: Limits, num_processes: int) -> float:
    """Return the work that a plan's first steps wait for, over the mean work of a process; 1 is perfect balance.

    Processes wait for each other in every round of micro-batches, so the slowest of each round counts.
    """
    samples, frame_cost = data.samples, data.frame_cost
    cost = samples["tokens"] + frame_cost * samples["frames"].astype(np.int64)
    slowest, mean = 0.0, 0.0
    for _, _, draws in plan.steps(0, NUM_STEPS):
        dealt = pack(draws, samples, limits, num_processes, frame_cost)
        work = np.array([[cost[[draw.sample for draw in members]].sum() for members in own] for own in dealt])
        slowest += work.max(axis=0).sum()
        mean += work.sum() / num_processes
    return float(slowest / mean)
