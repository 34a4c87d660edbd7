"""Chooses a step, or none, for each piece of evidence in order of time, with a soft preference for the steps' order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Costs:
    """Costs of an alignment, in units of similarity.

    A text below `threshold` is worth less than none. `skip` is paid for each step that is passed over, at most
    `most_skips` times; `back` for going to an earlier step.
    """

    threshold: float = 0.15
    skip: float = 0.02
    most_skips: int = 3
    back: float = 0.1


def align(similarity: np.ndarray, costs: Costs) -> list[int | None]:
    """Return a step's place, or None, for each row, so that the sum of similarity - threshold - costs is largest.

    Dynamic programming over (row, step of the last row that has one); quadratic in steps, linear in rows. Nothing is
    forbidden: steps may be left out, come in any order and come again. On equal sums the earlier step is taken.

    Args:
        similarity: float64 [rows, steps], rows in order of time.
    """
    num_rows, num_steps = similarity.shape
    if not num_rows or not num_steps:
        return [None] * num_rows
    moves = _moves(num_steps, costs)
    # The last state is "no step yet", which nothing leads back to.
    best = np.full(num_steps + 1, -np.inf)
    best[-1] = 0.0
    came_from = np.zeros((num_rows, num_steps), dtype=int)
    is_taken = np.zeros((num_rows, num_steps + 1), dtype=bool)
    for row in range(num_rows):
        arriving = best[:, None] - moves
        came_from[row] = arriving.argmax(axis=0)
        taken = arriving.max(axis=0) + similarity[row] - costs.threshold
        is_taken[row, :-1] = taken > best[:-1]
        best[:-1] = np.maximum(taken, best[:-1])
    return _walk_back(int(best.argmax()), came_from, is_taken)


def worth(similarity: np.ndarray, chosen: Sequence[int | None], costs: Costs) -> float:
    """Return the sum of similarity - threshold - costs, which `align` makes as large as it can be."""
    moves, before, total = _moves(similarity.shape[1], costs), -1, 0.0
    for row, step in enumerate(chosen):
        if step is not None:
            total += similarity[row, step] - costs.threshold - moves[before, step]
            before = step
    return float(total)


def _moves(num_steps: int, costs: Costs) -> np.ndarray:
    """Return what it costs to go from each step, or from none in the last row, to each step."""
    before, after = np.arange(-1, num_steps)[:, None], np.arange(num_steps)[None, :]
    passed = np.clip(after - before - 1, 0, costs.most_skips)
    moves = np.where(after < before, costs.back, passed * costs.skip)
    return np.roll(moves, -1, axis=0)


def _walk_back(state: int, came_from: np.ndarray, is_taken: np.ndarray) -> list[int | None]:
    chosen: list[int | None] = []
    for row in reversed(range(len(came_from))):
        if is_taken[row, state]:
            chosen.append(state)
            state = int(came_from[row, state])
        else:
            chosen.append(None)
    return chosen[::-1]
