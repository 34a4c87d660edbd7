"""Reads a task's steps from `inferred_knowledge`: a title, then numbered lines in one of several ways of numbering."""

import re
from dataclasses import dataclass
from itertools import pairwise

_NUMBERED = re.compile(
    r"(?:[-\u2022]\s+)?\(?(?P<word>step\s*)?#?(?P<number>\d{1,3})\s*(?P<mark>[.):]+|[-\u2013\u2014](?=\s))(?!\d)\s*(?P<text>.*)",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(?:the\s+)?(?:steps|instructions|directions|method|procedure|preparation)\s*:?", re.IGNORECASE)
_NOTE = re.compile(r"[-\u2013\u2022+]\s+|\(?notes?\b|tips?\b", re.IGNORECASE)
_ENDS_A_SENTENCE = (".", "!", "?", ":", ";")
FULL_LINE = 60
"""Characters of a line that was broken for its length, so that the next one may go on with a new sentence."""
_REPEATS = re.compile(
    r"\brepeat\b.*?\bsteps?\s+(\d+)(?:\s*(?:-|\u2013|to|through|until)\s*(\d+)|((?:\s*(?:,|and|&)\s*\d+)*))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Step:
    """A step under its own number: `number` 3 has the id S3."""

    number: int
    name: str

    @property
    def id(self) -> str:
        return f"S{self.number}"


def read_steps(knowledge: str) -> list[Step]:
    """Return the steps in the order of the text; none if no line is numbered.

    Ingredients before a heading such as `Steps` are left out, wrapped lines are joined, notes below a step and closing
    remarks are no part of it. A number that is taken or does not grow starts no step, nor does one that leaves out a
    number which a later line has.
    """
    lines = _below_headings([line.rstrip() for line in knowledge.splitlines()])
    numbers = [found.number if (found := _numbered(line)) else None for line in lines]
    steps: list[Step] = []
    is_open = False
    for place, (above, line) in enumerate(pairwise(["", *lines])):
        found, last = _numbered(line), steps[-1].number if steps else 0
        if found and found.number > last and not (found.number > last + 1 and last + 1 in numbers[place:]):
            steps.append(found)
            is_open = True
        elif is_open and not _is_heading(line) and (not steps[-1].name or _goes_on(line, above)):
            steps[-1] = Step(steps[-1].number, _join(steps[-1].name, _plain(line)))
        else:
            is_open = False
    return [step for step in steps if step.name]


def lines_without_step(knowledge: str, steps: list[Step]) -> list[str]:
    """Return the numbered lines that begin none of the steps which were read."""
    names = {step.number: step.name for step in steps}
    found = ((line.strip(), _numbered(line)) for line in knowledge.splitlines())
    return [line for line, step in found if step and not names.get(step.number, "").startswith(step.name)]


def _below_headings(lines: list[str]) -> list[str]:
    """Return the lines that hold the steps.

    These are all if their numbers grow, else those below a heading from which on they grow, else those below the last
    heading with a number behind it.
    """
    headings = [place + 1 for place, line in enumerate(lines) if _is_heading(line)]
    for start in (0, *headings):
        numbers = [found.number for line in lines[start:] if (found := _numbered(line))]
        if numbers and all(one < other for one, other in pairwise(numbers)):
            return lines[start:]
    is_last = headings and any(map(_numbered, lines[headings[-1] :]))
    return lines[headings[-1] :] if is_last else lines


def _is_heading(line: str) -> bool:
    return bool(_HEADING.fullmatch(_plain(line)))


def repeated(step: Step) -> list[int]:
    """Return the numbers of the steps that a step says to repeat: `Repeat steps 2-4` gives 2, 3, 4."""
    found = _REPEATS.search(step.name)
    if not found:
        return []
    first, last, others = int(found[1]), found[2], [int(number) for number in re.findall(r"\d+", found[3] or "")]
    return list(range(first, int(last) + 1)) if last else [first, *others]


def _plain(line: str) -> str:
    """Return a line without the marks of bold text and headings."""
    return re.sub(r"\*\*|__|^\s*#+\s*", "", line).strip()


def _numbered(line: str) -> Step | None:
    found = _NUMBERED.match(_plain(line))
    # `1 - 2 cups flour` and `2: 1 ratio` are amounts.
    return Step(int(found["number"]), found["text"].strip()) if found and not _is_amount(found) else None


def _is_amount(found: re.Match) -> bool:
    return found["mark"] not in ".):" and not found["word"] and bool(re.match(r"\d", found["text"]))


def _goes_on(line: str, above: str) -> bool:
    """Return whether a line is the rest of the step above: a sentence is open there, or that line is full."""
    text = _plain(line)
    if not text or _NOTE.match(text):
        return False
    # A new sentence below a closed short line is a remark.
    return not _plain(above).endswith(_ENDS_A_SENTENCE) or text[0].islower() or len(above) >= FULL_LINE


def _join(name: str, rest: str) -> str:
    # `1/2-` and `inch` are one word, which the line's end has broken.
    return f"{name}{rest}" if re.search(r"\w-$", name) else f"{name} {rest}".strip()
