"""Metrics of a model that read the gold history: decisions, tokens, and updates as greedy decoding writes them."""

from collections.abc import Mapping
from copy import copy

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
        self.minutes = minutes
        self.decisions, self.thresholds = {}, {}
        for head, given in thresholds.items():
            probabilities = torch.from_numpy(columns[f"{head}_logits"]).double().softmax(-1)[:, 1].numpy()
            decisions = Decisions.read(columns[head], probabilities, columns["is_frame"], columns["clip"])
            self.decisions[head] = decisions
            self.thresholds[head] = decisions.best_threshold() if given is None else given
        self._sums = _text_sums(columns)

    def of_clips(self, members: np.ndarray) -> "TeacherForced":
        """Return the readings of some clips alone, with the same thresholds; `members` are their positions."""
        part = copy(self)
        numbers = np.full(max(len(self._sums), members.max() + 1), -1)
        numbers[members] = np.arange(len(members))
        part.decisions = {head: decisions.of_clips(numbers) for head, decisions in self.decisions.items()}
        part.minutes = self.minutes and {head: minutes[members] for head, minutes in self.minutes.items()}
        part._sums = np.zeros((len(members), self._sums.shape[1]))
        known = members < len(self._sums)
        part._sums[known] = self._sums[members[known]]
        return part

    def __call__(self, weights: np.ndarray) -> Metrics:
        """Return the metrics for whole-numbered float64 weights [num_clips]."""
        metrics: Metrics = {}
        for head in HEAD_NAMES:
            minutes = None if self.minutes is None else float(weights @ self.minutes[head])
            metrics |= self.decisions[head].metrics(head, weights, self.thresholds[head], minutes)
        tokens, loss, hits, updates, exact = (weights[: len(self._sums)] @ self._sums).tolist()
        if tokens:
            metrics["lm/perplexity"] = float(np.exp(loss / tokens))
            metrics["lm/token_accuracy"] = hits / tokens
        if updates:
            metrics["update/exact_match"] = exact / updates
            metrics["num_updates"] = updates
        return metrics

    def curves(self) -> dict[str, dict[str, list[float | None]]]:
        """Return scores over thresholds by head, without heads that lack positives or negatives."""
        found = {head: self.decisions[head].curve(float(self.minutes[head].sum())) for head in HEAD_NAMES}
        return {head: curve for head, curve in found.items() if curve is not None}


def _text_sums(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return tokens, their losses and hits, updates and those exact, summed by clip: float64 [num_clips, 5]."""
    tokens, updates = columns["lm_clip"], columns["turn_clip"][columns["turn_is_dst"]]
    num_clips = 1 + max(tokens.max(initial=-1), updates.max(initial=-1), columns["clip"].max(initial=-1))
    sums = (
        (tokens, np.ones(len(tokens))),
        (tokens, columns["lm_loss"]),
        (tokens, columns["lm_hit"]),
        (updates, np.ones(len(updates))),
        (updates, columns["turn_hit"][columns["turn_is_dst"]]),
    )
    return np.stack([np.bincount(clip, values, num_clips) for clip, values in sums], axis=1)
