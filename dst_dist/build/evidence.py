"""Reads `all_step_descriptions`: what annotators wrote about a video, with times, in the form of every dataset."""

import re
from dataclasses import dataclass, field

from dst_dist.build.dialogs import Turn

_TIME = r"((?:\d+:){0,2}\d+(?:[.,]\d+)?)\s*(?:s|sec|secs|seconds?)?"
_TIMED = re.compile(rf"\s*(?P<dash>-\s*)?\[\s*{_TIME}(?:\s*(?:[-\u2013\u2014]|\bto\b)\s*{_TIME})?\s*\]\s*(?P<text>.*)")
_NOT_UNDERSTOOD = re.compile(r"\s*(?:-\s*)?[\[(]\s*[^\])]*\d[^\])]*[\])]\s*\S")
_SAID = re.compile(r"(assistant|instructor|user|student)\s*:\s*(.*)", re.IGNORECASE)
_MARK = re.compile(r"\((ERROR|mistake|correction)\b(?:\s*of)?\s*:?\s*(.*?)\)\s*$", re.IGNORECASE)
SUMMARY = re.compile(r"summary\s*:", re.IGNORECASE)


@dataclass
class Line:
    """A top line: something done from `start` to `end`, in seconds; `end` is None for a point in time.

    `nested` are the texts of the actions below it, `extent` the last end among them and its own. `mark` is `error`,
    `mistake` or `correction`, or empty; `corrected` is the text that a correction quotes.
    """

    start: float
    end: float | None
    text: str
    nested: list[str] = field(default_factory=list)
    mark: str = ""
    corrected: str = ""


@dataclass
class Evidence:
    """Texts about a video: lines in order of time, utterances, and texts that have no time.

    An untimed text is kept with the range in which it stands: after the line above it and before the one below.
    `not_understood` are those of them that begin with a number in brackets, which may be meant as a time.
    """

    lines: list[Line]
    said: list[Turn]
    untimed: list[tuple[float, float | None, str]]
    not_understood: list[str] = field(default_factory=list)


def read_evidence(descriptions: str) -> Evidence:
    """Return what a video's descriptions say."""
    found = Evidence([], [], [])
    waiting: list[str] = []
    for written in descriptions.splitlines():
        match = _TIMED.match(written)
        if match:
            _add_timed(found, match, waiting)
        elif (text := written.strip()) and not SUMMARY.match(text):
            waiting.append(text)
            found.not_understood += [text] if _NOT_UNDERSTOOD.match(text) else []
    found.untimed += [(_last_end(found.lines), None, text) for text in waiting]
    found.lines.sort(key=lambda line: (line.start, line.end or line.start))
    return found


def _add_timed(found: Evidence, match: re.Match, waiting: list[str]) -> None:
    start, end = _seconds(match[2]), _seconds(match[3]) if match[3] else None
    if end is not None and end < start:
        start, end = end, start
    text = match["text"].strip()
    said = _SAID.match(text)
    if said:
        role = "user" if said[1].lower() in ("user", "student") else "assistant"
        found.said.append(Turn(role=role, time=start, content=said[2].strip().strip('"')))
    elif match["dash"] is None:
        found.untimed += [(_last_end(found.lines), start, untimed) for untimed in waiting]
        waiting.clear()
        plain, mark, corrected = _without_mark(text)
        found.lines.append(Line(start, end, plain, mark=mark, corrected=corrected))
    elif found.lines:
        found.lines[-1].nested.append(_without_mark(text)[0])


def _seconds(time: str) -> float:
    """Return a time in seconds, written as `83.5`, `83,5`, `1:23.5` or `0:01:23.5`."""
    *larger, seconds = time.replace(",", ".").split(":")
    minutes = sum(int(part) * 60**place for place, part in enumerate(reversed(larger)))
    return 60 * minutes + float(seconds)


def _last_end(lines: list[Line]) -> float:
    return (lines[-1].end or lines[-1].start) if lines else 0.0


def _without_mark(text: str) -> tuple[str, str, str]:
    match = _MARK.search(text)
    if not match:
        return text, "", ""
    mark = match[1].lower()
    return text[: match.start()].strip(), mark, match[2].strip().strip('"') if mark == "correction" else ""
