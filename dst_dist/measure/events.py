"""Measures of what a model wrote while it watched, against what should have been written and when."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from dst_dist.data.clips import CLOCK_ERROR_S, Clip
from dst_dist.heads import HEAD_NAMES, HEADS
from dst_dist.measure.decisions import Metrics
from dst_dist.measure.replies import count_replies, reply_metrics, window_of
from dst_dist.measure.similarity import Similarity
from dst_dist.measure.timeline import Timeline, Watched, asked_minutes

TOLERANCES_S = (1.0, 2.0, 5.0)


@dataclass
class Tally:
    """What is counted in one clip; sums over clips make every metric.

    Attributes:
        sums: by name, numbers that add up over clips.
        delays_s: by head, of each event written within the widest tolerance of one that should be: negative is early.
    """

    sums: dict[str, float] = field(default_factory=dict)
    delays_s: dict[str, list[float]] = field(default_factory=dict)


def match(
    gold_s: Sequence[float], predicted_s: Sequence[float], allowed: np.ndarray, tolerance_s: float
) -> list[tuple[int, int]]:
    """Pairs (gold, predicted) one to one: as many as possible, and of those the ones nearest in time.

    Args:
        allowed: bool [gold, predicted], whether a pair may be matched at all.
    """
    if not len(gold_s) or not len(predicted_s):
        return []
    distance = np.abs(np.subtract.outer(np.asarray(gold_s), np.asarray(predicted_s)))
    possible = allowed & (distance <= tolerance_s + CLOCK_ERROR_S)
    # One more pair is worth more than all distances together can cost.
    worth = np.where(possible, 1 + len(gold_s) + len(predicted_s) - distance / max(tolerance_s, CLOCK_ERROR_S), 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


def match_transitions(gold: Timeline, predicted: Timeline, tolerance_s: float) -> list[tuple[int, int]]:
    """Pairs of equal transitions (same step, same change), by position in each timeline's `transitions`."""
    ours, theirs = gold.transitions, predicted.transitions
    allowed = np.array([[a == b for _, b in theirs] for _, a in ours], dtype=bool).reshape(len(ours), len(theirs))
    return match([time_s for time_s, _ in ours], [time_s for time_s, _ in theirs], allowed, tolerance_s)


def match_times(gold_s: Sequence[float], predicted_s: Sequence[float], tolerance_s: float) -> list[tuple[int, int]]:
    """Pairs by time alone, whatever was written."""
    return match(gold_s, predicted_s, np.ones((len(gold_s), len(predicted_s)), bool), tolerance_s)


def tally(
    clip: Clip,
    gold: Timeline,
    predicted: Timeline,
    tolerance_s: float,
    watched: Watched | None = None,
    similarity: Similarity | None = None,
) -> Tally:
    """Count one clip.

    Args:
        tolerance_s: seconds that a transition may be off and still count; an event that is off by more is early or late.
        watched: where a model wrote `predicted`: whether it can be read, and how long it took.
        similarity: compares replies; None where there is nothing to read in them.
    """
    duration_s, step_ids = (clip.end_frame - clip.start_frame) / clip.fps, [step.id for step in clip.steps]
    counted = Tally(
        {"minutes": duration_s / 60} | {f"{head}/minutes": minutes for head, minutes in asked_minutes(clip).items()}
    )
    counted.sums |= {
        "transition/gold": len(gold.transitions),
        "transition/predicted": len(predicted.transitions),
        "transition/matched": len(match_transitions(gold, predicted, tolerance_s)),
    }
    for head in HEADS:
        gold_s, predicted_s = ([time_s for time_s, _ in getattr(one, head.events)] for one in (gold, predicted))
        _count_times(counted, head.name, gold_s, predicted_s, tolerance_s)
    if step_ids:
        _count_states(counted, gold, predicted, step_ids)
    if watched is not None:
        _count_written(counted, watched)
    if similarity is not None:
        replies = count_replies(gold.replies, predicted.replies, window_of(clip.dataset), similarity)
        counted.sums |= {f"reply/{name}": value for name, value in vars(replies).items()}
    return counted


def _count_times(counted: Tally, head: str, gold_s: list[float], predicted_s: list[float], tolerance_s: float) -> None:
    for wide_s in TOLERANCES_S:
        counted.sums[f"{head}/matched@{wide_s:g}s"] = len(match_times(gold_s, predicted_s, wide_s))
    # What is found within the tolerance is not missed.
    widest = match_times(gold_s, predicted_s, max(*TOLERANCES_S, tolerance_s))
    found_s = [gold_s[row] for row, _ in widest]
    delays_s = np.array([predicted_s[column] for _, column in widest]) - found_s
    taken, within_s = {column for _, column in widest}, tolerance_s + CLOCK_ERROR_S
    second = [time_s for column, time_s in enumerate(predicted_s) if column not in taken]
    counted.delays_s[head] = delays_s.tolist()
    counted.sums |= {
        f"{head}/gold": len(gold_s),
        f"{head}/predicted": len(predicted_s),
        f"{head}/matched": len(widest),
        f"{head}/early": int((delays_s < -within_s).sum()),
        f"{head}/late": int((delays_s > within_s).sum()),
        f"{head}/duplicate": sum(any(abs(time_s - at_s) <= within_s for at_s in found_s) for time_s in second),
    }


def _count_states(counted: Tally, gold: Timeline, predicted: Timeline, step_ids: Sequence[str]) -> None:
    same = [a == b for a, b in zip(gold.states, predicted.states, strict=True)]
    at_updates = [same[position] for position in gold.update_positions]
    steps = [
        a.get(step) == b.get(step) for a, b in zip(gold.states, predicted.states, strict=True) for step in step_ids
    ]
    for name, hits in (("state/frames", same), ("state/updates", at_updates), ("state/steps", steps)):
        counted.sums |= {f"{name}/right": sum(hits), f"{name}/all": len(hits)}


def _count_written(counted: Tally, watched: Watched) -> None:
    updates = [event for event in watched.events if event.role == "DST_UPDATE"]
    counted.sums |= {
        "written/updates": len(updates),
        "written/readable": sum(bool(event.transitions) for event in updates),
        "written/transitions": sum(len(event.transitions) for event in updates),
        "written/illegal": sum(event.num_illegal for event in updates),
        "written/work_s": float(watched.frame_s.sum()),
    }


class Tallies:
    """The tallies of a split as a measure: metrics from clip weights (see `evaluate.intervals`)."""

    def __init__(self, tallies: Sequence[Tally]):
        self.names = sorted({name for one in tallies for name in one.sums})
        self.table = np.array([[one.sums.get(name, 0.0) for name in self.names] for one in tallies], dtype=np.float64)
        self.delays_s = {head: np.concatenate([one.delays_s.get(head, []) for one in tallies]) for head in HEAD_NAMES}
        self.clip_of = {
            head: np.repeat(np.arange(len(tallies)), [len(one.delays_s.get(head, [])) for one in tallies])
            for head in HEAD_NAMES
        }

    def sums(self, weights: np.ndarray) -> dict[str, float]:
        """Weighted sums by name, 0 for a name that no clip has."""
        return defaultdict(float, zip(self.names, (weights @ self.table).tolist(), strict=True))

    def __call__(self, weights: np.ndarray) -> Metrics:
        sums = self.sums(weights)
        metrics = _transition_metrics(sums)
        for head in HEAD_NAMES:
            times_drawn = weights[self.clip_of[head]].astype(np.int64)
            metrics |= _timing_metrics(head, sums, np.repeat(self.delays_s[head], times_drawn))
        named = {
            "joint_goal_accuracy/frames": "frames",
            "joint_goal_accuracy/updates": "updates",
            "step_status_accuracy": "steps",
        }
        for key, name in named.items():
            if sums[f"state/{name}/all"]:
                metrics[key] = sums[f"state/{name}/right"] / sums[f"state/{name}/all"]
        replies = {name.removeprefix("reply/"): value for name, value in sums.items() if name.startswith("reply/")}
        return metrics | _written_metrics(sums) | (reply_metrics(replies) if replies else {})


def _written_metrics(sums: dict[str, float]) -> Metrics:
    """Whether updates can be read, which of their transitions the state did not allow, and how fast it went."""
    metrics: Metrics = {}
    if sums["written/updates"]:
        metrics["update/json_valid"] = sums["written/readable"] / sums["written/updates"]
    if sums["written/transitions"]:
        metrics["update/illegal"] = sums["written/illegal"] / sums["written/transitions"]
    if sums["written/work_s"]:
        metrics["real_time_factor"] = sums["written/work_s"] / (60 * sums["minutes"])
    return metrics


def _transition_metrics(sums: dict[str, float]) -> Metrics:
    matched, gold, predicted = (sums[f"transition/{name}"] for name in ("matched", "gold", "predicted"))
    if not gold and not predicted:
        return {}
    metrics = {
        "transition/f1": 2 * matched / (gold + predicted),
        "transition/missed": gold - matched,
        "transition/extra": predicted - matched,
    }
    if predicted:
        metrics["transition/precision"] = matched / predicted
    if gold:
        metrics["transition/recall"] = matched / gold
    return metrics


def _timing_metrics(head: str, sums: dict[str, float], delays_s: np.ndarray) -> Metrics:
    """When it writes, whatever it writes.

    `early`, `late` and `missed` are shares of what should be written: off by more than the tolerance, or by more than
    the widest (which is the tolerance itself, if that is more). `duplicate` is the share of what was written that
    stands, within the tolerance, beside something that should be written but was written already.
    """
    gold, predicted, found = (sums[f"{head}/{name}"] for name in ("gold", "predicted", "matched"))
    metrics = {}
    if sums[f"{head}/minutes"]:
        metrics[f"{head}/false_per_minute"] = (predicted - found) / sums[f"{head}/minutes"]
    if gold or predicted:
        metrics |= {
            f"{head}/f1@{wide_s:g}s": 2 * sums[f"{head}/matched@{wide_s:g}s"] / (gold + predicted)
            for wide_s in TOLERANCES_S
        }
    if gold:
        metrics |= {f"{head}/{name}": sums[f"{head}/{name}"] / gold for name in ("early", "late")}
        metrics[f"{head}/missed"] = (gold - found) / gold
    if predicted:
        metrics[f"{head}/duplicate"] = sums[f"{head}/duplicate"] / predicted
    if len(delays_s):
        metrics[f"{head}/latency_s"] = float(np.median(delays_s))
        metrics[f"{head}/latency_s_90"] = float(np.quantile(delays_s, 0.9))
    return metrics
