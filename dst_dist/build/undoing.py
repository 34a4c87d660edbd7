"""Finds the lines that take back what their step does."""

import re
from collections.abc import Sequence

import numpy as np

from dst_dist.build.evidence import Line
from dst_dist.build.speech import Sentence
from dst_dist.build.steps import Step
from dst_dist.build.words import GROUP_OF, stem, telling

CORRECTED_S = 3.0
"""Longest time from words about a mistake to the line that takes it back."""
EARLY_S = 1.0
"""Longest time that such a line may begin before these words."""
NAMED = 0.3
"""Similarity from which a line names another step."""
CLEARLY = 0.75
"""Share of the best similarity from which the step at hand is meant all the same."""
_UNDOING = re.compile(
    r"\b(detach\w*|unscrew\w*|disassembl\w*|undo\w*|dismantl\w*|disconnect\w*|unplug\w*|remov\w*"
    r"|(?:tak|pull|lift)\w*\b.*\b(?:off|out|apart)|loosen\w*|unfasten\w*)\b",
    re.IGNORECASE,
)
_SURELY_UNDOING = re.compile(
    r"\b(detach\w*|unscrew\w*|disassembl\w*|undo\w*|dismantl\w*|disconnect\w*)\b", re.IGNORECASE
)
_BACKWARDS = re.compile(
    r"\b(un(?!der|til|less|its?\b|iform|ique|iversal)[a-z]{3,}|off|out|apart|back|down|loose\w*|remov\w*)\b",
    re.IGNORECASE,
)
"""Words that turn a doing round, if something was said to be wrong just before."""
_AWAY = re.compile(r"\b(off|out|apart)\b", re.IGNORECASE)
_JOINING = {GROUP_OF[stem(word)] for word in ("attach", "insert", "screw")}


def corrections(
    lines: Sequence[Line],
    steps: Sequence[Step],
    chosen: Sequence[int | None],
    scores: np.ndarray,
    sentences: Sequence[Sentence],
) -> tuple[dict[int, int], dict[int, int]]:
    """Return the lines that take back the step at hand right behind words about a mistake, and those that do it again.

    Lines that clearly name another step are neither.

    Args:
        chosen: the step of each line, None for none; `scores` its similarities, float64 [lines, steps].

    Returns:
        The step by the row of the line that takes it back, and by the row of the line after that one.
    """
    wrong = [sentence.time for sentence in sentences if sentence.is_mistake]
    undone: dict[int, int] = {}
    redone: dict[int, int] = {}
    hand: int | None = None
    for row, line in enumerate(lines):
        if hand is not None and _may_be(hand, scores[row]):
            is_next = any(-EARLY_S <= line.start - time <= CORRECTED_S for time in wrong)
            if is_next and _BACKWARDS.search(line.text) and not _BACKWARDS.search(steps[hand].name):
                undone[row] = hand
            elif row - 1 in undone:
                redone[row] = hand
        if chosen[row] is not None and row not in undone and row not in redone:
            hand = chosen[row]
    return undone, redone


def _may_be(step: int, scores: np.ndarray) -> bool:
    return bool(scores.max() < NAMED or scores[step] >= CLEARLY * scores.max())


def undoing(
    lines: Sequence[Line], steps: Sequence[Step], chosen: Sequence[int | None], corrected: dict[int, int]
) -> set[int]:
    """Return the lines that undo their step, only where something is there to be undone.

    Taking a pan off the stove is part of frying; taking off a part that was attached is not. So a plain `remove` counts
    only of joined parts, after a mistake, or if the step is done again.
    """
    owned = [(row, step) for row, step in enumerate(chosen) if step is not None]
    says = {row for row, step in owned if row in corrected or _undoes(lines[row], steps[step])}
    surely = {row for row, _ in owned if row in corrected or _SURELY_UNDOING.search(lines[row].text)}
    found = set()
    for row, step in owned:
        done = [other for other, owner in owned if owner == step and other not in says]
        is_joined = any(GROUP_OF.get(word) in _JOINING for word in telling(steps[step].name))
        is_marked = any(lines[other].mark for other, owner in owned if other == row or (other < row and owner == step))
        is_sure = row in surely or is_joined or is_marked or any(other > row for other in done)
        if row in says and is_sure and any(other < row for other in done):
            found.add(row)
    return found


def _undoes(line: Line, step: Step) -> bool:
    """Return whether a line takes back what its step does; a step that takes a thing out is not undone by that."""
    away, own = ({word.casefold() for word in _AWAY.findall(text)} for text in (line.text, step.name))
    return bool(_UNDOING.search(line.text)) and not _UNDOING.search(step.name) and away.isdisjoint(own)
