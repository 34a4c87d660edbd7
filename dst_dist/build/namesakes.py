"""Shares work out among steps whose names are the same, or differ only in which of several alike things they mean."""

import re
from collections.abc import Sequence
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
_MORE = frozenset({"next", "other", "another", "remaining"})


def share(chosen: Sequence[int | None], steps: Sequence[Step], texts: Sequence[str]) -> list[int | None]:
    """Return the steps of lines; work on a step that comes again goes to a later namesake of it that has none.

    Where names differ in a word such as `second` or `left`, a line that has that word goes to its step.

    Args:
        chosen: the step of each line, None for none; `texts` what the lines say.
    """
    shared, matched = list(chosen), [row for row, step in enumerate(chosen) if step is not None]
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, step in enumerate(steps):
        groups.setdefault(_core(step.name), []).append(place)
    for places in groups.values():
        if len(places) < 2:
            continue
        own = [_which(steps[place].name) for place in places]
        for row in matched:
            if chosen[row] in places and (meant := _meant(own, texts[row])) is not None:
                shared[row] = places[meant]
        by_name = groupby(matched, key=lambda row: chosen[row] in places)
        visits = [[(row, places.index(chosen[row])) for row in rows] for is_own, rows in by_name if is_own]
        if len(visits) >= len(places) and not set(places) <= set(shared):
            for row, number in _in_turn(visits, own, texts).items():
                shared[row] = places[number]
    return shared


def _meant(own: Sequence[set[str]], text: str) -> int | None:
    """Return which of several names has most of a text's words that tell them apart, None if several have."""
    common = [len(words & _which(text)) for words in own]
    return common.index(max(common)) if common.count(max(common)) == 1 else None


def _in_turn(
    visits: Sequence[Sequence[tuple[int, int]]], own: Sequence[set[str]], texts: Sequence[str]
) -> dict[int, int]:
    """Return which of several names each line of some visits means: that of its own word, or for each visit the next.

    Args:
        visits: lines that stand together, each with the place of its name so far.
        own: the words of each name that tell it from the others.
    """
    found: dict[int, int] = {}
    at = -1
    for rows in visits:
        before = rows[0][1]
        for row, number in rows:
            meant = _meant(own, texts[row])
            if meant is not None:
                at = meant
            elif row == rows[0][0]:
                waiting = [place for place in range(len(own)) if place not in found.values()]
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
