"""Metrics of a model that read the gold history: decisions, tokens, and updates as greedy decoding writes them."""

from collections.abc import Mapping

import numpy as np
import torch

from dst_dist.heads import HEAD_NAMES
from dst_dist.measure.decisions import Decisions, Metrics


class TeacherForced:
    """The readings of a split, as a measure of clip weights (see `measure.intervals`).

    Args:
        columns: arrays by name, as `model.readings` makes them.
        thresholds: by head; None chooses the best on these readings.
        minutes: by head, for each clip the minutes in which the head decides; without, no false alarms a minute.
    """

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        thresholds: dict[str, float | None],
        minutes: Mapping[str, np.ndarray] | None = None,
    ):
        self.columns, self.minutes = columns, minutes
        self.decisions, self.thresholds = {}, {}
        for head, given in thresholds.items():
            probabilities = torch.from_numpy(columns[f"{head}_logits"]).double().softmax(-1)[:, 1].numpy()
            decisions = Decisions.read(columns[head], probabilities, columns["is_frame"], columns["clip"])
            self.decisions[head] = decisions
            self.thresholds[head] = decisions.best_threshold() if given is None else given

    def __call__(self, weights: np.ndarray) -> Metrics:
        """Return the metrics for float64 weights [num_clips]."""
        metrics: Metrics = {}
        for head in HEAD_NAMES:
            minutes = None if self.minutes is None else float(weights @ self.minutes[head])
            metrics |= self.decisions[head].metrics(head, weights, self.thresholds[head], minutes)
        columns, is_update = self.columns, self.columns["turn_is_dst"]
        token_weight, update_weight = weights[columns["lm_clip"]], weights[columns["turn_clip"][is_update]]
        if token_weight.sum():
            metrics["lm/perplexity"] = float(np.exp(_mean(columns["lm_loss"], token_weight)))
            metrics["lm/token_accuracy"] = _mean(columns["lm_hit"], token_weight)
        if update_weight.sum():
            metrics["update/exact_match"] = _mean(columns["turn_hit"][is_update], update_weight)
            metrics["num_updates"] = float(update_weight.sum())
        return metrics

    def curves(self) -> dict[str, dict[str, list[float | None]]]:
        """Return scores over thresholds by head, without heads that lack positives or negatives."""
        found = {head: self.decisions[head].curve(float(self.minutes[head].sum())) for head in HEAD_NAMES}
        return {head: curve for head, curve in found.items() if curve is not None}


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float(weight @ np.asarray(values, np.float64) / weight.sum())
