"""Finds lines for steps that none names, and steps for lines that name none, by where they stand."""

import re
from collections.abc import Sequence

from dst_dist.build.evidence import Line
from dst_dist.build.hearing import Heard, Tell
from dst_dist.build.words import telling

NEAR_S = 1.5
"""Longest time between an instruction and the start of the line that does what it says."""
REPEATED = 0.75
"""Share of the words of two lines that they have in common if one repeats the other."""
TOUCHING_S = 0.6
"""Longest gap between two lines of one piece of work."""
_LOOKS = re.compile(
    r"(?:the (?:user|student|person)\s+)?(?:inspect|look|examin|admir|observ|watch)\w*\b", re.IGNORECASE
)
"""Begin a line that does nothing, so that it is no part of the work that it touches."""


def adopt(lines: Sequence[Line], chosen: Sequence[int | None], num_steps: int, heard: Heard) -> list[int | None]:
    """Return the steps of lines; a step without lines takes one that an instruction begins, behind the step before it.

    A line that has a step already stays with it, as does one whose instruction tells another step.

    Args:
        chosen: the step of each line, None for none.
    """
    filled = list(chosen)
    for step in range(num_steps):
        if step in filled:
            continue
        before = max((other for other in filled if other is not None and other < step), default=None)
        for row in _rows_behind(before, filled):
            if _begins(lines[row], heard.orders) and _may_be_told(step, row, lines, filled, heard.tells):
                filled[row] = step
                break
    return _joined(lines, _repeated(lines, filled), heard.orders)


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
    at_start = {tell.step for tell in tells if abs(tell.time - lines[row].start) <= NEAR_S}
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
        is_told = _begins(line, orders)
        if _LOOKS.match(line.text):
            continue
        if joined[row] is None and row and not is_told and _touch(lines[row - 1], line):
            joined[row] = chosen[row - 1]
        if joined[row] is None and is_told and row + 1 < len(lines) and _touch(line, lines[row + 1]):
            joined[row] = None if _begins(lines[row + 1], orders) else chosen[row + 1]
    return joined


def _touch(line: Line, after: Line) -> bool:
    return line.end is not None and after.start - line.end <= TOUCHING_S
