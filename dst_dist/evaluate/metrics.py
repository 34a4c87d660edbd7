"""Measures of decisions and updates, from arrays; each key is absent where it does not apply."""

from collections.abc import Iterable, Mapping

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_recall_fscore_support

from dst_dist.data.clips import Clip
from dst_dist.data.conversation import IGNORE, arrange
from dst_dist.data.state import TRANSITIONS, Transition, apply_update, format_update

Metrics = dict[str, float]


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


def decision_metrics(
    head: str, labels: np.ndarray, probabilities: np.ndarray, is_frame: np.ndarray, threshold: float | None
) -> Metrics:
    """Decisions of one head (`dst_update` or `speaking`) at all its counted positions.

    Args:
        labels: [n] in {1, 0, -100}. probabilities: [n] of the positive class.
        is_frame: [n], False at the end of a user turn.
        threshold: decide above it; None: the one with the highest F1 on these very positions.
    """
    counted = labels != IGNORE
    metrics = {
        f"num_{head}_positives": float(np.sum(labels == 1)),
        f"num_{head}_negatives": float(np.sum(labels == 0)),
    }
    for name, chosen in (("", counted), ("_at_frames", counted & is_frame)):
        if len(np.unique(labels[chosen])) == 2:
            metrics[f"{head}/average_precision{name}"] = float(average_precision_score(labels[chosen], probabilities[chosen]))
            metrics[f"{head}/base_rate{name}"] = float(np.mean(labels[chosen] == 1))
    if f"{head}/average_precision" not in metrics:
        return metrics
    labels, probabilities = labels[counted], probabilities[counted]
    threshold = best_threshold(labels, probabilities) if threshold is None else threshold
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, probabilities > threshold, average="binary", zero_division=0.0
    )
    scores = {"precision": precision, "recall": recall, "f1": f1, "threshold": threshold}
    return metrics | {f"{head}/{name}": float(value) for name, value in scores.items()}


def rule_update(state: Mapping[str, str], step_ids: list[str]) -> list[Transition]:
    """The text rule: complete the open step (the last in order), start the next one not started."""
    is_open = [step for step in step_ids if state.get(step) == "in_progress"]
    after = step_ids[step_ids.index(is_open[-1]) + 1 :] if is_open else step_ids
    waiting = [step for step in after if state.get(step, "not_started") == "not_started"]
    completed = [Transition(step, "complete") for step in is_open[-1:]]
    return completed + [Transition(step, "start") for step in waiting[:1]]


def _num_legal(state: Mapping[str, str], step_ids: list[str]) -> int:
    return sum(
        state.get(step, "not_started") in allowed for step in step_ids for allowed, _ in TRANSITIONS.values()
    )


def text_baselines(clips: Iterable[Clip]) -> dict[str, Metrics]:
    """What can be had of the updates without a picture, at the gold updates and with the gold state.

    `chance` draws one allowed transition at random, `rule` is `rule_update`. Empty without updates.
    """
    hits: list[tuple[float, float]] = []
    for clip in clips:
        state, step_ids = dict(clip.initial_state), [step.id for step in clip.steps]
        for turn in (turn for group in arrange(clip, "continuous", "last") for turn in group.turns):
            if turn.role != "DST_UPDATE":
                continue
            by_rule = format_update(rule_update(state, step_ids)) == format_update(turn.transitions)
            by_chance = 1 / max(1, _num_legal(state, step_ids)) if len(turn.transitions) == 1 else 0.0
            hits.append((by_chance, float(by_rule)))
            state, _ = apply_update(state, turn.transitions)
    if not hits:
        return {}
    chance, rule = np.mean(hits, axis=0)
    return {"chance": {"update/exact_match": float(chance)}, "rule": {"update/exact_match": float(rule)}}
