"""Finds the largest micro-batches of a run in its plan."""

from dataclasses import dataclass

import numpy as np

from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan, Draw, pack
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Limits
from dst_dist.heads import HEAD_NAMES
from dst_dist.plan.simulate import MicroBatchShape

STEPS_LOOKED_AT = 200


@dataclass(frozen=True)
class Largest:
    """The micro-batches with the most tokens and the most frames, and how many a process has in a step at most."""

    by_tokens: MicroBatchShape
    by_frames: MicroBatchShape
    num_a_step: int
    draws: tuple[list[Draw], list[Draw]] = ([], [])
    """The draws of both."""


def largest_micro_batches(
    data: SampleDataset, num_processes: int, recipe: Recipe, num_steps: int | None = None
) -> Largest:
    """Return the largest micro-batches of the first `num_steps` steps, otherwise of STEPS_LOOKED_AT in an epoch.

    Args:
        recipe: with a number for `train.max_tokens`.
    """
    plan = BatchPlan(data.weights, recipe.train.global_batch_size, recipe.seed, data.fingerprint)
    limits = Limits(recipe.train.max_tokens, recipe.train.max_frames)
    found, num_a_step = [], 0
    for _, _, draws in plan.steps(0, num_steps or min(STEPS_LOOKED_AT, plan.steps_per_epoch)):
        dealt = pack(draws, data.samples, limits, num_processes, data.frame_cost)
        num_a_step = max(num_a_step, *map(len, dealt))
        nonempty = [members for of_process in dealt for members in of_process if members]
        found += [(shape_of(data.samples[[draw.sample for draw in members]]), members) for members in nonempty]
    by_tokens = max(found, key=lambda one: (one[0].num_tokens, one[0].num_frames))
    by_frames = max(found, key=lambda one: (one[0].num_frames, one[0].num_tokens))
    return Largest(by_tokens[0], by_frames[0], num_a_step, (by_tokens[1], by_frames[1]))


def shape_of(rows: np.ndarray) -> MicroBatchShape:
    """Return the sizes of samples, given by their rows of the table; every negative counts as a decision position."""
    head = HEAD_NAMES[0]
    num_decisions = int(rows[f"{head}_positives"].sum() + rows[f"{head}_negatives"].sum())
    lengths = tuple(int(length) for length in rows["tokens"])
    return MicroBatchShape(lengths, int(rows["frames"].sum()), int(rows["lm"].sum()), num_decisions)


def full_micro_batch(max_tokens: int, max_seq_len: int, like: MicroBatchShape) -> MicroBatchShape:
    """Return a micro-batch of `max_tokens` tokens, with the shares of frames and supervised tokens of `like`."""
    lengths = [max_seq_len] * (max_tokens // max_seq_len)
    if rest := max_tokens - sum(lengths):
        lengths.append(rest)
    share = max_tokens / like.num_tokens
    counts = (round(count * share) for count in (like.num_frames, like.num_lm, like.num_decisions))
    return MicroBatchShape(tuple(lengths), *counts)
