"""Metrics of streams: the turns that a model wrote and their times, against the gold timeline."""

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from dst_dist.data.clips import CLOCK_ERROR_S, Clip
from dst_dist.heads import HEAD_NAMES, HEADS
from dst_dist.measure.decisions import Metrics, precision_recall_f1, ratios
from dst_dist.measure.replies import count_replies, reply_metrics, window_of
from dst_dist.measure.similarity import Similarity
from dst_dist.measure.timeline import Timeline, Watched, asked_minutes

TOLERANCES_S = (1.0, 2.0, 5.0)


@dataclass
class Tally:
    """The counts of one clip; sums over clips make every metric.

    Attributes:
        sums: by name, numbers that add up over clips.
        delays_s: by head, seconds from gold to predicted of each matched pair; negative is early.
    """

    sums: dict[str, float] = field(default_factory=dict)
    delays_s: dict[str, list[float]] = field(default_factory=dict)


def match(
    gold_s: Sequence[float], predicted_s: Sequence[float], tolerance_s: float, allowed: np.ndarray | bool = True
) -> list[tuple[int, int]]:
    """Return pairs (gold, predicted) one to one: as many as possible, and of those the nearest in time.

    Args:
        allowed: bool [gold, predicted], whether a pair may be matched; all may by default.
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
    """Return pairs of equal transitions (same step, same change), by position in each timeline's `transitions`."""
    ours, theirs = gold.transitions, predicted.transitions
    allowed = np.array([[a == b for _, b in theirs] for _, a in ours], dtype=bool)
    return match([time_s for time_s, _ in ours], [time_s for time_s, _ in theirs], tolerance_s, allowed)


def tally(clip: Clip, gold: Timeline, predicted: Timeline, tolerance_s: float) -> Tally:
    """Count transitions, times and states of one clip; a turn off by more than the tolerance is early or late."""
    counted = Tally({f"{head}/minutes": minutes for head, minutes in asked_minutes(clip).items()})
    counted.sums |= {
        "transition/gold": len(gold.transitions),
        "transition/predicted": len(predicted.transitions),
        "transition/matched": len(match_transitions(gold, predicted, tolerance_s)),
    }
    for head in HEADS:
        gold_s, predicted_s = ([time_s for time_s, _ in getattr(one, head.events)] for one in (gold, predicted))
        _count_times(counted, head.name, gold_s, predicted_s, tolerance_s)
    if clip.steps:
        _count_states(counted, gold, predicted, [step.id for step in clip.steps])
    return counted


def tally_stream(
    watched: Watched, gold: Timeline, predicted: Timeline, tolerance_s: float, similarity: Similarity
) -> Tally:
    """Count one clip as `tally` does, and a model's replies, faulty updates and speed."""
    clip, counted = watched.clip, tally(watched.clip, gold, predicted, tolerance_s)
    updates = [event for event in watched.events if event.role == "DST_UPDATE"]
    counted.sums |= {
        "written/updates": len(updates),
        "written/readable": sum(bool(event.transitions) for event in updates),
        "written/transitions": sum(len(event.transitions) for event in updates),
        "written/illegal": sum(event.num_illegal for event in updates),
        "written/work_s": float(watched.frame_s.sum()),
        "written/minutes": (clip.end_frame - clip.start_frame) / clip.fps / 60,
    }
    counted.sums |= count_replies(gold.replies, predicted.replies, window_of(clip.dataset), similarity)
    return counted


def _count_times(counted: Tally, head: str, gold_s: list[float], predicted_s: list[float], tolerance_s: float) -> None:
    for wide_s in TOLERANCES_S:
        counted.sums[f"{head}/matched@{wide_s:g}s"] = len(match(gold_s, predicted_s, wide_s))
    # A gold turn that is matched within any tolerance, `tolerance_s` included, is not missed.
    widest = match(gold_s, predicted_s, max(*TOLERANCES_S, tolerance_s))
    found_s = [gold_s[row] for row, _ in widest]
    delays_s = np.array([predicted_s[column] for _, column in widest]) - found_s
    matched, within_s = {column for _, column in widest}, tolerance_s + CLOCK_ERROR_S
    unmatched_s = [time_s for column, time_s in enumerate(predicted_s) if column not in matched]
    counted.delays_s[head] = delays_s.tolist()
    counted.sums |= {
        f"{head}/gold": len(gold_s),
        f"{head}/predicted": len(predicted_s),
        f"{head}/matched": len(widest),
        f"{head}/early": int((delays_s < -within_s).sum()),
        f"{head}/late": int((delays_s > within_s).sum()),
        f"{head}/duplicate": sum(any(abs(time_s - at_s) <= within_s for at_s in found_s) for time_s in unmatched_s),
    }


def _count_states(counted: Tally, gold: Timeline, predicted: Timeline, step_ids: Sequence[str]) -> None:
    pairs = list(zip(gold.states, predicted.states, strict=True))
    same = [a == b for a, b in pairs]
    at_updates = [same[position] for position in gold.update_positions]
    steps = [a.get(step) == b.get(step) for a, b in pairs for step in step_ids]
    for name, hits in (("frames", same), ("updates", at_updates), ("steps", steps)):
        counted.sums |= {f"state/{name}/right": sum(hits), f"state/{name}/all": len(hits)}


class Tallies:
    """The tallies of a split, as a measure of clip weights (see `measure.intervals`)."""

    def __init__(self, tallies: Sequence[Tally]):
        self._names = sorted({name for one in tallies for name in one.sums})
        self._table = np.array([[one.sums.get(name, 0.0) for name in self._names] for one in tallies], np.float64)
        self._delays_s = {head: np.concatenate([one.delays_s[head] for one in tallies]) for head in HEAD_NAMES}
        self._clip = {
            head: np.repeat(np.arange(len(tallies)), [len(one.delays_s[head]) for one in tallies])
            for head in HEAD_NAMES
        }

    def of_clips(self, members: np.ndarray) -> "Tallies":
        """Return the tallies of some clips alone; `members` are their positions."""
        part = copy(self)
        numbers = np.full(len(self._table), -1)
        numbers[members] = np.arange(len(members))
        clips = {head: numbers[clip] for head, clip in self._clip.items()}
        part._table = self._table[members]
        part._delays_s = {head: delays_s[clips[head] >= 0] for head, delays_s in self._delays_s.items()}
        part._clip = {head: clip[clip >= 0] for head, clip in clips.items()}
        return part

    def __call__(self, weights: np.ndarray) -> Metrics:
        """Return the metrics for whole-numbered float64 weights [num_clips]."""
        sums = defaultdict(float, zip(self._names, (weights @ self._table).tolist(), strict=True))
        metrics = _transition_metrics(sums)
        for head in HEAD_NAMES:
            times_drawn = weights[self._clip[head]].astype(np.int64)
            metrics |= _timing_metrics(head, sums, np.repeat(self._delays_s[head], times_drawn))
        parts = {
            "joint_goal_accuracy/frames": ("state/frames/right", "state/frames/all"),
            "joint_goal_accuracy/updates": ("state/updates/right", "state/updates/all"),
            "step_status_accuracy": ("state/steps/right", "state/steps/all"),
            "update/json_valid": ("written/readable", "written/updates"),
            "update/illegal": ("written/illegal", "written/transitions"),
        }
        metrics |= ratios({key: (sums[part], sums[whole]) for key, (part, whole) in parts.items()})
        metrics |= ratios({"real_time_factor": (sums["written/work_s"], 60 * sums["written/minutes"])})
        return metrics | reply_metrics(sums)


def _transition_metrics(sums: dict[str, float]) -> Metrics:
    matched, gold, predicted = (sums[f"transition/{name}"] for name in ("matched", "gold", "predicted"))
    if not gold and not predicted:
        return {}
    unmatched = {"transition/missed": gold - matched, "transition/extra": predicted - matched}
    return ratios(precision_recall_f1(matched, predicted, gold), "transition/") | unmatched


def _timing_metrics(head: str, sums: dict[str, float], delays_s: np.ndarray) -> Metrics:
    """Return metrics of the times of a head's turns, whatever their text."""
    gold, predicted, found = (sums[f"{head}/{name}"] for name in ("gold", "predicted", "matched"))
    parts = {
        "false_per_minute": (predicted - found, sums[f"{head}/minutes"]),
        **{f"f1@{wide_s:g}s": (2 * sums[f"{head}/matched@{wide_s:g}s"], gold + predicted) for wide_s in TOLERANCES_S},
        "early": (sums[f"{head}/early"], gold),
        "late": (sums[f"{head}/late"], gold),
        "missed": (gold - found, gold),
        "duplicate": (sums[f"{head}/duplicate"], predicted),
    }
    metrics = ratios(parts, f"{head}/")
    if len(delays_s):
        metrics[f"{head}/latency_s"] = float(np.median(delays_s))
        metrics[f"{head}/latency_s_90"] = float(np.quantile(delays_s, 0.9))
    return metrics
