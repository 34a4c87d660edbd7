"""Draws the negatives that count in an epoch: a share of each head's, by (seed, epoch, sample, repeat, head).

The number of them in a sample follows from the table of samples, so every process knows the counts of a whole step.
"""

from collections.abc import Sequence

import numpy as np

from dst_dist.data.batching import Draw
from dst_dist.data.conversation import IGNORE
from dst_dist.heads import HEAD_NAMES


class Negatives:
    """Draws the negatives of a dataset.

    Args:
        rate: share of the negatives that count.
        weights: draws of each sample in an epoch, int64 [num_samples].
        available: negatives of each sample by head, [num_samples].
    """

    def __init__(self, rate: float, seed: int, weights: np.ndarray, available: dict[str, np.ndarray]):
        self.rate, self._seed, self._available = rate, seed, available
        self._first_draw = np.cumsum(weights) - weights
        self._num_draws = int(weights.sum())
        self._epoch, self._epoch_roundings = -1, np.empty(0)

    def _roundings(self, epoch: int) -> np.ndarray:
        """Return a number in [0, 1) for each head and draw of an epoch, [heads, num_draws]."""
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, epoch])
            self._epoch, self._epoch_roundings = epoch, rng.random((len(HEAD_NAMES), self._num_draws))
        return self._epoch_roundings

    def num_kept(self, draws: Sequence[Draw], epoch: int) -> dict[str, np.ndarray]:
        """Return how many negatives of each draw count, by head, int64 [num_draws].

        The share is rounded up as often as needed to hold on average, however short samples are.
        """
        samples, repeats = np.array(draws, dtype=np.int64).reshape(-1, 2).T
        roundings = self._roundings(epoch)[:, self._first_draw[samples] + repeats]
        return {
            head: np.floor(self.rate * self._available[head][samples] + rounding).astype(np.int64)
            for head, rounding in zip(HEAD_NAMES, roundings, strict=True)
        }

    def keep(self, labels: dict[str, np.ndarray], draw: Draw, epoch: int) -> dict[str, np.ndarray]:
        """Return a sample's labels by head with the negatives that do not count set to IGNORE.

        Args:
            labels: int64 [D] in {1, 0, IGNORE}, with every negative.
        """
        if self.rate == 1:
            return labels
        num_kept = self.num_kept([draw], epoch)
        return {
            head: _keep_some(values, int(num_kept[head][0]), [self._seed, epoch, *draw, number])
            for number, (head, values) in enumerate(labels.items())
        }


def _keep_some(labels: np.ndarray, number: int, entropy: list[int]) -> np.ndarray:
    order = np.random.default_rng(entropy).permutation(np.flatnonzero(labels == 0))
    kept = labels.copy()
    kept[order[number:]] = IGNORE
    return kept
