"""Measures of what a model wrote while it watched, against what should have been written and when."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from dst_dist.data.clips import Clip
from dst_dist.data.conversation import arrange
from dst_dist.data.state import Transition, apply_update, without_not_started
from dst_dist.evaluate.metrics import Metrics
from dst_dist.evaluate.stream import Event

TOLERANCES_S = (1.0, 2.0, 5.0)


@dataclass
class Timeline:
    """What happens in a clip, told or written: times in seconds, states after each frame."""

    updates: list[tuple[float, tuple[Transition, ...]]] = field(default_factory=list)
    replies: list[tuple[float, str]] = field(default_factory=list)
    states: list[dict[str, str]] = field(default_factory=list)
    update_positions: list[int] = field(default_factory=list)
    """Indexes into `states` at which an update stands."""

    @property
    def transitions(self) -> list[tuple[float, Transition]]:
        return [(time_s, change) for time_s, changes in self.updates for change in changes]


def gold_timeline(clip: Clip) -> Timeline:
    """As the clip's turns say; replies and updates of one outcome are one."""
    timeline, state = Timeline(), dict(clip.initial_state)
    for group in arrange(clip, "continuous", "last"):
        for turn in group.turns:
            if turn.role == "DST_UPDATE":
                state, _ = apply_update(state, turn.transitions)
                timeline.updates.append((group.frame / clip.fps, turn.transitions))
                timeline.update_positions.append(len(timeline.states))
            elif turn.role == "assistant":
                timeline.replies.append((group.frame / clip.fps, turn.text))
        timeline.states.append(without_not_started(state))
    return timeline


def predicted_timeline(clip: Clip, events: Sequence[Event], states: Sequence[dict[str, str]]) -> Timeline:
    """As a stream wrote; updates that could not be read have no transitions."""
    return Timeline(
        [(event.frame / clip.fps, event.transitions) for event in events if event.role == "DST_UPDATE"],
        [(event.frame / clip.fps, event.text) for event in events if event.role == "assistant"],
        [without_not_started(state) for state in states],
    )


def match(gold_s: Sequence[float], predicted_s: Sequence[float], allowed: np.ndarray, tolerance_s: float) -> list[tuple[int, int]]:
    """Pairs (gold, predicted) one to one: as many as possible, and of those the ones nearest in time.

    Args:
        allowed: bool [gold, predicted], whether a pair may be matched at all.
    """
    if not len(gold_s) or not len(predicted_s):
        return []
    distance = np.abs(np.subtract.outer(np.asarray(gold_s), np.asarray(predicted_s)))
    possible = allowed & (distance <= tolerance_s)
    # One more pair is worth more than all distances together can cost.
    worth = np.where(possible, 1 + len(gold_s) + len(predicted_s) - distance / max(tolerance_s, 1e-9), 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


def _scores(name: str, num_matched: int, num_gold: int, num_predicted: int) -> Metrics:
    if not num_gold and not num_predicted:
        return {}
    precision = num_matched / num_predicted if num_predicted else 0.0
    recall = num_matched / num_gold if num_gold else 0.0
    f1 = 2 * num_matched / (num_gold + num_predicted)
    return {f"{name}/precision": precision, f"{name}/recall": recall, f"{name}/f1": f1}


def event_metrics(
    gold: Sequence[Timeline], predicted: Sequence[Timeline], step_ids: Sequence[Sequence[str]],
    durations_s: Sequence[float], tolerance_s: float,
) -> Metrics:  # fmt: skip
    """Over clips that were streamed, each from its own start.

    Args:
        step_ids: the steps of each clip; empty where there is no dialog state to keep.
        tolerance_s: seconds that a transition may be off and still count.
    """
    metrics: Metrics = {}
    pairs = list(zip(gold, predicted, strict=True))
    matched = sum(len(_match_transitions(g, p, tolerance_s)) for g, p in pairs)
    num_gold, num_predicted = sum(len(g.transitions) for g, _ in pairs), sum(len(p.transitions) for _, p in pairs)
    metrics |= _scores("transition", matched, num_gold, num_predicted)
    if num_gold or num_predicted:
        metrics |= {"transition/missed": float(num_gold - matched), "transition/extra": float(num_predicted - matched)}
    minutes = sum(durations_s) / 60
    for head, kind in (("dst_update", "updates"), ("speaking", "replies")):
        metrics |= _timing(head, [([t for t, _ in getattr(g, kind)], [t for t, _ in getattr(p, kind)]) for g, p in pairs], minutes)
    return metrics | _state_metrics(pairs, step_ids)


def _match_transitions(gold: Timeline, predicted: Timeline, tolerance_s: float) -> list[tuple[int, int]]:
    ours, theirs = gold.transitions, predicted.transitions
    allowed = np.array([[a == b for _, b in theirs] for _, a in ours], dtype=bool).reshape(len(ours), len(theirs))
    return match([time_s for time_s, _ in ours], [time_s for time_s, _ in theirs], allowed, tolerance_s)


def _timing(head: str, times: Sequence[tuple[list[float], list[float]]], minutes: float) -> Metrics:
    """When it writes, whatever it writes: F1 at several tolerances; of the widest the signed delay, the share
    missed, and how many a minute were false."""
    num_gold, num_predicted = (sum(len(pair[side]) for pair in times) for side in (0, 1))
    if not num_gold and not num_predicted:
        return {}
    metrics: Metrics = {}
    delays: list[float] = []
    for tolerance_s in TOLERANCES_S:
        matches = [(g, p, match(g, p, np.ones((len(g), len(p)), bool), tolerance_s)) for g, p in times]
        delays = [p[column] - g[row] for g, p, found in matches for row, column in found]
        metrics[f"{head}/f1@{tolerance_s:g}s"] = 2 * len(delays) / (num_gold + num_predicted)
    metrics[f"{head}/false_per_minute"] = (num_predicted - len(delays)) / minutes
    if num_gold:
        metrics[f"{head}/missed"] = (num_gold - len(delays)) / num_gold
    if delays:
        metrics[f"{head}/latency_s"] = float(np.median(delays))
        metrics[f"{head}/latency_s_90"] = float(np.quantile(delays, 0.9))
    return metrics


def _state_metrics(pairs: Sequence[tuple[Timeline, Timeline]], step_ids: Sequence[Sequence[str]]) -> Metrics:
    """Joint goal accuracy: the whole predicted state is the gold one; and the share of single steps that are right."""
    frames, updates, steps = [], [], []
    for (gold, predicted), ids in zip(pairs, step_ids, strict=True):
        if not ids:
            continue
        same = [a == b for a, b in zip(gold.states, predicted.states, strict=True)]
        frames += same
        updates += [same[position] for position in gold.update_positions]
        steps += [a.get(step) == b.get(step) for a, b in zip(gold.states, predicted.states, strict=True) for step in ids]
    named = {"joint_goal_accuracy/frames": frames, "joint_goal_accuracy/updates": updates, "step_status_accuracy": steps}
    return {name: float(np.mean(values)) for name, values in named.items() if values}
