"""Measures of decisions, from arrays; each key is absent where it does not apply."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve  # up here: importing it draws random numbers

from dst_dist.data.conversation import IGNORE

Metrics = dict[str, float]

CURVE_POINTS = 101


def best_threshold(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with the highest F1 of deciding above it, halfway to the next lower score (or to 0).

    Args:
        labels: [n] in {1, 0}, of both kinds. probabilities: [n].
    """
    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    chosen = thresholds[int(np.argmax(f1[:-1]))]
    below = float(probabilities[probabilities < chosen].max(initial=0.0))
    halfway = float(chosen + below) / 2
    # Between two neighbouring numbers there is no third, and the upper one must stay above the threshold.
    return halfway if halfway < chosen else below


@dataclass
class Decisions:
    """The counted positions of one head as a measure of clip weights (see `evaluate.intervals`), best score first.

    scikit-learn gives the same numbers (tested), but sorts anew for each of the many weightings of a bootstrap.

    Attributes:
        positive: float64 [n]. probabilities: float64 [n], not rising. is_frame: [n], False at the end of a user turn.
        clip: int64 [n].
    """

    positive: np.ndarray
    probabilities: np.ndarray
    is_frame: np.ndarray
    clip: np.ndarray

    @classmethod
    def read(cls, labels: np.ndarray, probabilities: np.ndarray, is_frame: np.ndarray, clip: np.ndarray) -> "Decisions":
        """Of all positions, labels in {1, 0, -100}, those that count."""
        order = np.argsort(-probabilities, kind="stable")
        order = order[labels[order] != IGNORE]
        return cls(*(values[order] for values in (labels.astype(np.float64), probabilities, is_frame, clip)))

    def best_threshold(self) -> float | None:
        """None unless there are positives and negatives."""
        if not 0 < self.positive.sum() < len(self.positive):
            return None
        return best_threshold(self.positive, self.probabilities)

    def metrics(self, head: str, weights: np.ndarray, threshold: float | None, minutes: float | None = None) -> Metrics:
        """Keys begin with `head`; decided is above `threshold`; false alarms a minute of `minutes` of video.

        Without a threshold nothing is decided on, and without a counted position there is nothing to decide.
        """
        weight = weights[self.clip]
        num_positives = float(weight @ self.positive)
        counts = {f"num_{head}_positives": num_positives, f"num_{head}_negatives": float(weight.sum()) - num_positives}
        found: Metrics = {}
        for name, chosen in (("", weight), ("_at_frames", weight * self.is_frame)):
            base_rate = float(chosen @ self.positive) / max(float(chosen.sum()), 1e-12)
            if 0 < base_rate < 1:
                found[f"{head}/average_precision{name}"] = self._average_precision(chosen)
                found[f"{head}/base_rate{name}"] = base_rate
        if threshold is None or not weight.sum():
            return counts
        scores = self._at(threshold, weight)
        num_false = scores.pop("num_false")
        if minutes:
            scores["false_per_minute"] = num_false / minutes
        return (
            counts
            | found
            | {f"{head}/{name}": value for name, value in scores.items()}
            | {f"{head}/threshold": threshold}
        )

    def _average_precision(self, weight: np.ndarray) -> float:
        """Mean over positives of the precision among all that score at least as high; equal scores stand together."""
        ends = np.flatnonzero(np.diff(self.probabilities, append=-1.0))
        found, decided = np.cumsum(weight * self.positive)[ends], np.cumsum(weight)[ends]
        return float(np.diff(found, prepend=0.0) @ (found / np.maximum(decided, 1e-12)) / found[-1])

    def _at(self, threshold: float, weight: np.ndarray) -> Metrics:
        decided = self.probabilities > threshold
        found, num_decided = float(weight[decided] @ self.positive[decided]), float(weight[decided].sum())
        num_positives = float(weight @ self.positive)
        shares = {
            "precision": (found, num_decided),
            "recall": (found, num_positives),
            "f1": (2 * found, num_decided + num_positives),
        }
        return {"num_false": num_decided - found} | {
            name: part / whole for name, (part, whole) in shares.items() if whole
        }

    def curve(self, minutes: float) -> dict[str, list[float | None]] | None:
        """Scores over thresholds, half of them where positives score and half where negatives do; None without both.

        Precision is None where nothing is decided.
        """
        positives, negatives = (self.probabilities[self.positive == value] for value in (1, 0))
        if not len(positives) or not len(negatives):
            return None
        levels = np.linspace(0, 1, CURVE_POINTS // 2)
        thresholds = np.unique([0.0, *np.quantile(positives, levels), *np.quantile(negatives, levels)])
        points = [self._at(threshold, np.ones(len(self.positive))) for threshold in thresholds]
        curve = {name: [point.get(name) for point in points] for name in ("precision", "recall", "f1")}
        per_minute = [point["num_false"] / minutes for point in points]
        return {"threshold": thresholds.tolist(), **curve, "false_per_minute": per_minute}


def mean_over(values: Sequence[float] | np.ndarray, clip: np.ndarray, weights: np.ndarray) -> float | None:
    """Weighted mean of values that belong to clips; None where no weight is left."""
    weight = weights[clip]
    return float(weight @ np.asarray(values, np.float64) / weight.sum()) if weight.sum() else None
