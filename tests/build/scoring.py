"""How near built clips are to gold: overlap of the intervals in progress, and F1 of the transitions."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

TOLERANCE_S = 2.0
Transition = tuple[float, str, str]
"""Time in seconds, step id, transition."""


def read_transitions(clips: Iterable[dict[str, Any]]) -> list[Transition]:
    """Return what the updates of a dialog's clips say, at the times of their decision frames."""
    return [
        ((turn["end_frame"] - 1) / clip["fps"], change["id"], change["transition"])
        for clip in clips
        for turn in clip["conversation"]
        if turn["role"] == "DST_UPDATE"
        for change in turn["content"]
    ]


def active(transitions: Sequence[Transition], end: float) -> dict[str, list[tuple[float, float]]]:
    """Return when each step is in progress; what never ends goes on to `end`."""
    open_at: dict[str, float] = {}
    intervals: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for time, step, transition in transitions:
        if transition in ("start", "resume"):
            open_at[step] = time
        elif step in open_at:
            intervals[step].append((open_at.pop(step), time))
    for step, time in open_at.items():
        intervals[step].append((time, end))
    return intervals


def overlap(gold: Sequence[Transition], found: Sequence[Transition], steps: Sequence[str], end: float) -> float:
    """Return the mean over steps of intersection over union of the intervals in progress; 1 where both have none."""
    a, b = active(gold, end), active(found, end)
    return sum(_iou(a.get(step, []), b.get(step, [])) for step in steps) / len(steps)


def _iou(gold: Sequence[tuple[float, float]], found: Sequence[tuple[float, float]]) -> float:
    if not gold and not found:
        return 1.0
    both = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in gold for b in found)
    union = sum(b - a for a, b in gold) + sum(b - a for a, b in found) - both
    return both / union if union else float(bool(gold) and bool(found))


def matched(gold: Sequence[Transition], found: Sequence[Transition]) -> int:
    """Return how many transitions agree within the tolerance, one to one."""
    count = 0
    for kind in {transition[1:] for transition in gold}:
        a = sorted(time for time, *rest in gold if tuple(rest) == kind)
        b = sorted(time for time, *rest in found if tuple(rest) == kind)
        while a and b:
            if abs(a[0] - b[0]) <= TOLERANCE_S:
                count += 1
                a, b = a[1:], b[1:]
            elif a[0] < b[0]:
                a = a[1:]
            else:
                b = b[1:]
    return count


def f1(gold: Sequence[Transition], found: Sequence[Transition]) -> float:
    return 2 * matched(gold, found) / (len(gold) + len(found)) if gold or found else 1.0
