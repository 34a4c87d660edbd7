"""Shares work out among steps whose names are the same, or differ only in which of several alike things they mean."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from dst_dist.build.steps import Step
from dst_dist.build.words import SILENT, stem

_WHICH = """
    first 1st
    second 2nd
    third 3rd
    fourth 4th
    fifth 5th
    sixth 6th
    last final
    left
    right
    front
    rear back
    top upper
    bottom lower
    inner inside
    outer outside
"""
_WHICH_OF = {word: line.split()[0] for line in _WHICH.strip().splitlines() for word in line.split()}
"""Words that say which of several alike things is meant -> the first of those that mean the same."""
_ASIDE = re.compile(
    r"(?<!'d )\b(?:like|as|than)\b[^,.!?\n]*"
    r"|\ball right\b|\b(?:that's|is|are|be) right\b|^right\b|\bright (?:away|now|there|here)\b"
    r"|\b(?:a|one) second\b|\b\w+ back\b|\bback to\b|\bat (?:first|last)\b|^(?:first|second|last)(?:,| of all\b)",
    re.IGNORECASE | re.MULTILINE,
)
"""Comparisons, which name another of the alike things, and words that say which only in other places."""
_MORE = frozenset({"next", "other", "another", "remaining"})


def share(
    chosen: Sequence[int | None], steps: Sequence[Step], texts: Sequence[str], said: Sequence[str]
) -> list[int | None]:
    """Return the steps of lines; work on a step that comes again goes to a later namesake of it that has none.

    Where names differ in a word such as `second` or `left`, a line with that word goes to its step, as do the lines
    right behind it; so it does if only what is said as the line begins has the word.

    Args:
        chosen: the step of each line, None for none; `texts` what the lines say, `said` what is said at their starts.
    """
    shared, matched = list(chosen), [row for row, step in enumerate(chosen) if step is not None]
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, step in enumerate(steps):
        groups.setdefault(_core(step.name), []).append(place)
    for places in groups.values():
        if len(places) < 2:
            continue
        own = [_which(steps[place].name) for place in places]
        meant = {row: _first(_meant(own, texts[row]), _meant(own, _ASIDE.sub("", said[row]))) for row in matched}
        by_name = groupby(matched, key=lambda row: chosen[row] in places)
        visits = [list(rows) for is_own, rows in by_name if is_own]
        for rows in visits:
            at, before = None, None
            for row in rows:
                at = _first(meant[row], at if chosen[row] == before else None)
                before = chosen[row]
                shared[row] = before if at is None else places[at]
        if len(visits) >= len(places) and not set(places) <= set(shared):
            numbered = [[(row, places.index(shared[row])) for row in rows] for rows in visits]
            for row, number in _in_turn(numbered, len(places), meant).items():
                shared[row] = places[number]
    return shared


def _first(*numbers: int | None) -> int | None:
    return next((number for number in numbers if number is not None), None)


def _meant(own: Sequence[set[str]], text: str) -> int | None:
    """Return which of several names has most of a text's words that tell them apart, None if several have."""
    common = [len(words & _which(text)) for words in own]
    return common.index(max(common)) if common.count(max(common)) == 1 else None


def _in_turn(
    visits: Sequence[Sequence[tuple[int, int]]], num_names: int, meant: Mapping[int, int | None]
) -> dict[int, int]:
    """Return which of several names each line of some visits means: that of its own word, or for each visit the next.

    Args:
        visits: lines that stand together, each with the place of its name so far.
        meant: the place of the name whose word a line has, if any.
    """
    found: dict[int, int] = {}
    at = -1
    for rows in visits:
        before = rows[0][1]
        for row, number in rows:
            own = meant[row]
            if own is not None:
                at = own
            elif row == rows[0][0]:
                waiting = [place for place in range(num_names) if place not in found.values()]
                at = next((place for place in waiting if place > at), waiting[0] if waiting else at)
            elif number != before:
                at = number
            found[row], before = at, number
    return found


def _which(text: str) -> set[str]:
    words = re.findall(r"[^\W_]+", text.casefold())
    return {_WHICH_OF[word] for word in words if word in _WHICH_OF}


def _core(name: str) -> tuple[str, ...]:
    """Return the stems of a name, without the words that say which of several alike things is meant."""
    words = re.findall(r"[^\W_]+", name.casefold())
    core = tuple(stem(word) for word in words if word not in SILENT | _MORE and word not in _WHICH_OF)
    # A name of nothing but such words is like no other.
    return core or (name,)
