"""Metrics of decisions, from arrays; a key is absent where it does not apply."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dst_dist.data.conversation import IGNORE
from dst_dist.measure.ranking import Ranking

Metrics = dict[str, float]

CURVE_POINTS = 101


def ratios(parts: Mapping[str, tuple[float, float]], prefix: str = "") -> Metrics:
    """Return part / whole for each name; absent where the whole is 0."""
    return {prefix + name: part / whole for name, (part, whole) in parts.items() if whole}


def precision_recall_f1(found: float, decided: float, positives: float) -> dict[str, tuple[float, float]]:
    """Return the parts and wholes of the three scores, for `ratios`."""
    return {"precision": (found, decided), "recall": (found, positives), "f1": (2 * found, decided + positives)}


@dataclass
class Decisions:
    """The counted positions of one head, highest probability first; metrics are functions of clip weights.

    scikit-learn gives the same numbers (tested), but sorts again for each of the many weightings of a bootstrap.

    Attributes:
        positive: float64 [n], 1 or 0.
        probabilities: float64 [n], descending.
        is_frame: bool [n], False at the end of a user turn.
        clip: int64 [n], index of the position's clip.
    """

    positive: np.ndarray
    probabilities: np.ndarray
    is_frame: np.ndarray
    clip: np.ndarray

    @classmethod
    def read(cls, labels: np.ndarray, probabilities: np.ndarray, is_frame: np.ndarray, clip: np.ndarray) -> "Decisions":
        """Sort all positions and leave out those that do not count; labels are 1, 0 or -100 (ignored)."""
        order = np.argsort(-probabilities, kind="stable")
        order = order[labels[order] != IGNORE]
        return cls(*(values[order] for values in (labels.astype(np.float64), probabilities, is_frame, clip)))

    def of_clips(self, numbers: np.ndarray) -> "Decisions":
        """Return the positions of some clips alone; `numbers`, int64 [num_clips], has their new indices, else -1."""
        clip = numbers[self.clip]
        kept = clip >= 0
        return Decisions(self.positive[kept], self.probabilities[kept], self.is_frame[kept], clip[kept])

    def best_threshold(self) -> float | None:
        """Return the threshold with the highest F1, halfway to the next lower score; None without both classes.

        Of several such thresholds it is the lowest. scikit-learn's curve has the same F1 (tested); importing it would
        take every start the better part of a second.
        """
        num_positives = self.positive.sum()
        if not 0 < num_positives < len(self.positive):
            return None
        # Where a score ends: positions of equal score are decided together.
        ends = np.flatnonzero(np.diff(self.probabilities, append=-1.0))
        f1 = 2 * np.cumsum(self.positive)[ends] / (ends + 1 + num_positives)
        best = np.flatnonzero(f1 == f1.max())[-1]
        chosen, below = np.append(self.probabilities[ends], 0.0)[best : best + 2].tolist()
        halfway = (chosen + below) / 2
        # Between two adjacent floats there is no third, and the upper one must stay above the threshold.
        return halfway if halfway < chosen else below

    def metrics(self, head: str, weights: np.ndarray, threshold: float | None, minutes: float | None = None) -> Metrics:
        """Return the head's metrics for clip weights.

        Args:
            head: first part of the keys.
            threshold: the head decides above it; without one there are only counts.
            minutes: of video, for false alarms a minute; absent without.
        """
        # Weights are whole numbers, so sums by clip first are the same.
        sums = (weights[: len(self._clip_counts)] @ self._clip_counts).tolist()
        by_kind = {"": sums[:2], "_at_frames": sums[2:]}
        num_positions, num_positives = by_kind[""]
        counts = {f"num_{head}_positives": num_positives, f"num_{head}_negatives": num_positions - num_positives}
        if threshold is None or not num_positions:
            return counts
        metrics: Metrics = {}
        for name, (number, positives) in by_kind.items():
            base_rate = positives / max(number, 1e-12)
            if 0 < base_rate < 1:
                metrics[f"{head}/average_precision{name}"] = self._rankings[name].average_precision(weights)
                metrics[f"{head}/base_rate{name}"] = base_rate
        parts, num_false = self._scores(threshold, weights, num_positives)
        metrics |= ratios(parts, f"{head}/")
        if minutes:
            metrics[f"{head}/false_per_minute"] = num_false / minutes
        return counts | metrics | {f"{head}/threshold": threshold}

    @cached_property
    def _clip_counts(self) -> np.ndarray:
        """Positions, positives, and both at frames alone, float64 [num_clips, 4]."""
        kinds = (np.ones(len(self.positive)), self.positive, self.is_frame, self.positive * self.is_frame)
        return np.stack([np.bincount(self.clip, kind) for kind in kinds], axis=1)

    @cached_property
    def _rankings(self) -> dict[str, Ranking]:
        at = self.is_frame
        return {
            "": Ranking(self.positive, self.probabilities, self.clip),
            "_at_frames": Ranking(self.positive[at], self.probabilities[at], self.clip[at]),
        }

    def _scores(
        self, threshold: float, weights: np.ndarray, num_positives: float
    ) -> tuple[dict[str, tuple[float, float]], float]:
        """Return the parts and wholes of precision, recall and F1 above the threshold, and the false alarms."""
        above = len(self.probabilities) - int(np.searchsorted(self.probabilities[::-1], threshold, side="right"))
        weight = weights[self.clip[:above]]
        found, num_decided = float(weight @ self.positive[:above]), float(weight.sum())
        return precision_recall_f1(found, num_decided, num_positives), num_decided - found

    def curve(self, minutes: float) -> dict[str, list[float | None]] | None:
        """Return scores over thresholds, or None without both classes; precision is None where nothing is decided."""
        positives, negatives = (self.probabilities[self.positive == value] for value in (1, 0))
        if not len(positives) or not len(negatives):
            return None
        # Half of the thresholds are quantiles of the positives' scores, half of the negatives'.
        levels = np.linspace(0, 1, CURVE_POINTS // 2)
        thresholds = np.unique([0.0, *np.quantile(positives, levels), *np.quantile(negatives, levels)])
        once = np.ones(self.clip.max() + 1)
        points = [self._scores(threshold, once, float(len(positives))) for threshold in thresholds]
        scores = [ratios(parts) for parts, _ in points]
        curve = {name: [point.get(name) for point in scores] for name in ("precision", "recall", "f1")}
        per_minute = [num_false / minutes for _, num_false in points]
        return {"threshold": thresholds.tolist(), **curve, "false_per_minute": per_minute}
