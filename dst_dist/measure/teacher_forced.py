"""Metrics of a model that was read with the gold history: decisions, tokens, and updates as greedy decoding writes them."""

from collections.abc import Mapping

import numpy as np
import torch

from dst_dist.heads import HEAD_NAMES
from dst_dist.measure.decisions import Decisions, Metrics, mean_over


class TeacherForced:
    """The readings of a split as a measure of clip weights (see `evaluate.intervals`).

    Args:
        thresholds: by head; None chooses the best on these readings.
        minutes: by head, of each clip those in which it is asked; without them there are no false alarms a minute.
    """

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        thresholds: dict[str, float | None],
        minutes: Mapping[str, np.ndarray] | None = None,
    ):
        self.columns, self.minutes = columns, minutes
        self.decisions, self.thresholds = {}, {}
        for head in HEAD_NAMES:
            probabilities = torch.from_numpy(columns[f"{head}_logits"]).double().softmax(-1)[:, 1].numpy()
            decisions = Decisions.read(columns[head], probabilities, columns["is_frame"], columns["clip"])
            given = thresholds[head]
            self.decisions[head] = decisions
            self.thresholds[head] = decisions.best_threshold() if given is None else given

    def __call__(self, weights: np.ndarray) -> Metrics:
        metrics: Metrics = {}
        for head in HEAD_NAMES:
            minutes = None if self.minutes is None else float(weights @ self.minutes[head])
            metrics |= self.decisions[head].metrics(head, weights, self.thresholds[head], minutes)
        columns, is_update = self.columns, self.columns["turn_is_dst"]
        means = {
            "lm/perplexity": mean_over(columns["lm_loss"], columns["lm_clip"], weights),
            "lm/token_accuracy": mean_over(columns["lm_hit"], columns["lm_clip"], weights),
            "update/exact_match": mean_over(columns["turn_hit"][is_update], columns["turn_clip"][is_update], weights),
        }
        metrics |= {name: value for name, value in means.items() if value is not None}
        if "lm/perplexity" in metrics:
            metrics["lm/perplexity"] = float(np.exp(metrics["lm/perplexity"]))
        if "update/exact_match" in metrics:
            metrics["num_updates"] = float(weights[columns["turn_clip"][is_update]].sum())
        return metrics

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """By head, scores over thresholds."""
        assert self.minutes is not None
        found = {head: self.decisions[head].curve(float(self.minutes[head].sum())) for head in HEAD_NAMES}
        return {head: curve for head, curve in found.items() if curve is not None}
