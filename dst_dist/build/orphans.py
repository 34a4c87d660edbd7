"""Finds lines for steps that none names, and steps for lines that name none, by where they stand."""

import re
from collections.abc import Collection, Sequence

import numpy as np

from dst_dist.build.evidence import Line
from dst_dist.build.hearing import Heard, Tell
from dst_dist.build.words import telling

NEAR_S = 1.5
"""Longest time between an instruction and the start of the line that does what it says."""
NEARLY = 0.8
"""Share of its similarity with its own step from which a line may be another's, which is told."""
REPEATED = 0.75
"""Share of the words of two lines that they have in common if one repeats the other."""
TOUCHING_S = 0.6
"""Longest gap between two lines of one piece of work."""
_LOOKS = re.compile(
    r"(?:(?:the|a) (?:user|student|person)\s+)?(?:inspects?|looks? (?:at|around|on|over)|examines?|admires?|watches)\b",
    re.IGNORECASE,
)
"""Begin a line that does nothing, so that it is no part of the work that it touches."""


def adopt(
    lines: Sequence[Line], chosen: Sequence[int | None], scores: np.ndarray, heard: Heard, settled: Collection[int]
) -> list[int | None]:
    """Return the steps of lines; a step without lines takes one that an instruction begins.

    It is one of several lines of another step that is nearly as much about it, if the instruction tells it, or a line
    without a step behind the step before it, unless the instruction tells another step.

    Args:
        chosen: the step of each line, None for none; `scores` its similarities, float64 [lines, steps].
        settled: lines that stay with their step.
    """
    filled = _told(lines, chosen, scores, heard.tells, settled)
    for step in range(scores.shape[1]):
        if step in filled:
            continue
        before = max((other for other in filled if other is not None and other < step), default=None)
        for row in _rows_behind(before, filled):
            if _begins(lines[row], heard.orders) and _may_be_told(step, row, lines, filled, heard.tells):
                filled[row] = step
                break
    return _joined(lines, _repeated(lines, filled), heard.orders)


def _told(
    lines: Sequence[Line],
    chosen: Sequence[int | None],
    scores: np.ndarray,
    tells: Sequence[Tell],
    settled: Collection[int],
) -> list[int | None]:
    """Return the steps of lines; a step without lines takes one nearly as much about it, at whose start it is told."""
    filled = list(chosen)
    for step in (step for step in range(scores.shape[1]) if step not in chosen):
        rows = [
            row
            for row, own in enumerate(filled)
            if own is not None
            and row not in settled
            and filled.count(own) > 1
            and scores[row, step] >= NEARLY * scores[row, own]
            and step in _told_at(lines[row], tells)
        ]
        if rows:
            filled[max(rows, key=lambda row: scores[row, step])] = step
    return filled


def _told_at(line: Line, tells: Sequence[Tell]) -> set[int]:
    """Return the steps that are told at a line's start."""
    return {tell.step for tell in tells if abs(tell.time - line.start) <= NEAR_S}


def _rows_behind(step: int | None, chosen: Sequence[int | None]) -> list[int]:
    """Return the lines without a step that follow work on one, before any work on another."""
    at, rows = None, []
    for row, own in enumerate(chosen):
        if own is not None:
            at = own
        elif at == step:
            rows.append(row)
    return rows


def _begins(line: Line, times: Sequence[float]) -> bool:
    return any(abs(line.start - time) <= NEAR_S for time in times)


def _may_be_told(
    step: int, row: int, lines: Sequence[Line], chosen: Sequence[int | None], tells: Sequence[Tell]
) -> bool:
    """Return whether no other step is told at a line's start, and the step not elsewhere between the work around it."""
    at_start = _told_at(lines[row], tells)
    since = max((lines[other].start for other in range(row) if chosen[other] is not None), default=0.0)
    until = min((lines[other].start for other in range(row, len(lines)) if chosen[other] is not None), default=None)
    is_elsewhere = any(
        tell.step == step and since < tell.time and (until is None or tell.time < until) for tell in tells
    )
    return step in at_start or not (at_start or is_elsewhere)


def _repeated(lines: Sequence[Line], chosen: Sequence[int | None]) -> list[int | None]:
    """Return the steps of lines; one without a step takes that of the last line before it with nearly its words."""
    repeated, words = list(chosen), [set(telling(line.text)) for line in lines]
    for row, own in enumerate(words):
        for other in reversed(range(row)):
            is_like = own and len(own & words[other]) >= REPEATED * len(own | words[other])
            if repeated[row] is None and chosen[other] is not None and is_like:
                repeated[row] = chosen[other]
    return repeated


def _joined(lines: Sequence[Line], chosen: Sequence[int | None], orders: Sequence[float]) -> list[int | None]:
    """Return the steps of lines; one without a step is part of the work that it touches.

    That is the work after it if an instruction begins it, and else the work before it; an instruction between two lines
    parts them.
    """
    joined = list(chosen)
    for row, line in enumerate(lines):
        if _LOOKS.match(line.text):
            continue
        is_told = _begins(line, orders)
        if joined[row] is None and row and not is_told and _touch(lines[row - 1], line):
            joined[row] = chosen[row - 1]
        if joined[row] is None and is_told and row + 1 < len(lines) and _touch(line, lines[row + 1]):
            joined[row] = None if _begins(lines[row + 1], orders) else chosen[row + 1]
    return joined


def _touch(line: Line, after: Line) -> bool:
    return line.end is not None and after.start - line.end <= TOUCHING_S
