"""Average precision of one ranking under many weightings of its clips."""

import numpy as np


class Ranking:
    """Positions from the highest score to the lowest; equal scores are one group.

    The sums that a weighting needs are prepared once: only groups with a positive count, so positions are summed from
    one such group to the next, and those below the last are left out.

    Args:
        positive: float64 [n], 1 or 0.
        scores: float64 [n], descending.
        clip: int64 [n], index of the position's clip.
    """

    def __init__(self, positive: np.ndarray, scores: np.ndarray, clip: np.ndarray):
        ends = np.flatnonzero(np.diff(scores, append=-np.inf)) + 1
        group = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        places = np.flatnonzero(positive)
        with_positive, first = np.unique(group[places], return_index=True)
        ends = ends[with_positive]
        self._starts, self._positive_starts = np.concatenate([[0], ends[:-1]]).astype(np.int64), first
        self._clip, self._positive_clip = clip[: ends.max(initial=0)], clip[places]

    def average_precision(self, weights: np.ndarray) -> float:
        """Return the mean over positives of the precision among all that score at least as high.

        Args:
            weights: float64 [num_clips]; some positive must have a weight above 0.
        """
        positives = np.add.reduceat(weights[self._positive_clip], self._positive_starts)
        decided = np.cumsum(np.add.reduceat(weights[self._clip], self._starts))
        found = np.cumsum(positives)
        return float(positives @ (found / np.maximum(decided, 1e-12)) / found[-1])
