"""Finds which step each annotated line of a video is about, with the help of what is said."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dst_dist.build.align import Costs, align
from dst_dist.build.evidence import Evidence, Line
from dst_dist.build.hearing import Cue, Tell, hear
from dst_dist.build.namesakes import share
from dst_dist.build.orphans import adopt
from dst_dist.build.similarity import Similarity, compare
from dst_dist.build.speech import Sentence
from dst_dist.build.steps import Step
from dst_dist.build.undoing import corrections, undoing
from dst_dist.build.untimed import place_untimed
from dst_dist.build.words import with_groups

NESTED_SHARE = 0.3
SPOKEN_SHARE = 0.5
"""Share of the extra similarity of a nested line, or of an instruction at a line's start, that is added to the line."""
PREPARING_SHARE = 0.35
"""Share that stays of a line's similarity if the line only takes or moves a thing, and the step does not."""
_PREPARING = re.compile(
    r"(?:the (?:user|student|person)\s+)?(?:(?:tak|grab|pick|get|fetch|hold|mov|bring)\w*|puts? (?:down|away|back))\b",
    re.IGNORECASE,
)
NEAR_S = 3.0
"""Seconds between an instruction and the start of the line that it may be about."""


@dataclass(frozen=True)
class Run:
    """A piece of work on a step, by its place among the steps: seconds, `end` None where nothing says so."""

    step: int
    start: float
    end: float | None
    is_undoing: bool = False
    similarity: float = 1.0


@dataclass(frozen=True)
class Task:
    """A video as all its dialogs share it: its steps, the texts about it, and the similarity of lines and steps.

    `line_scores` is float64 [lines, steps]; `untimed` has the range of steps that are described without a time.
    """

    steps: Sequence[Step]
    evidence: Evidence
    line_scores: np.ndarray
    untimed: dict[int, tuple[float, float | None]]


@dataclass(frozen=True)
class Matches:
    """Evidence of a dialog matched to steps: a run for each line about a step, the other lines, and speech."""

    runs: list[Run]
    unmatched: list[Line]
    tells: list[Tell]
    cues: list[Cue]


def read_task(steps: Sequence[Step], evidence: Evidence, similarity: Similarity) -> Task:
    """Return a task; nested lines and a correction's quoted line count a part of a line's scores."""
    lines = evidence.lines
    below = [(row, text) for row, line in enumerate(lines) for text in [*line.nested, line.corrected] if text]
    scores = compare(similarity, [*(line.text for line in lines), *(text for _, text in below)], steps)
    own, nested = scores[: len(lines)], scores[len(lines) :]
    for row, line in enumerate(lines):
        own[row] *= [PREPARING_SHARE if _only_prepares(line, step) else 1.0 for step in steps]
    best = own.copy()
    for (row, _), score in zip(below, nested, strict=True):
        best[row] = np.maximum(best[row], score)
    return Task(steps, evidence, own + NESTED_SHARE * (best - own), place_untimed(steps, evidence, similarity))


def _only_prepares(line: Line, step: Step) -> bool:
    groups = {word for word in with_groups(line.text) if word.startswith("=")}
    return bool(_PREPARING.match(line.text)) and groups.isdisjoint(with_groups(step.name))


def match(task: Task, sentences: Sequence[Sentence], similarity: Similarity, costs: Costs) -> Matches:
    """Return which step each line and each sentence of a dialog is about."""
    lines, steps = task.evidence.lines, task.steps
    heard = hear(sentences, steps, similarity)
    scores = task.line_scores.copy()
    for row, support in _near_instructions(lines, heard.instructions).items():
        scores[row] += SPOKEN_SHARE * np.maximum(0, support - scores[row])
    chosen = align(scores, costs)
    taken_back, redone = corrections(lines, steps, chosen, task.line_scores, sentences)
    corrected = taken_back | redone
    chosen = [corrected.get(row, step) for row, step in enumerate(chosen)]
    chosen = adopt(lines, chosen, scores, heard, corrected)
    said = [""] * len(lines)
    for sentence in sentences:
        row = _nearest(lines, sentence.time)
        if sentence.may_tell and sentence.role == "assistant" and row is not None:
            said[row] += f"{sentence.text}\n"
    chosen = share(chosen, steps, [line.text for line in lines], said)
    undone = undoing(lines, steps, chosen, taken_back)
    runs = [
        Run(step, line.start, line.end, row in undone, float(scores[row, step]))
        for row, (line, step) in enumerate(zip(lines, chosen, strict=True))
        if step is not None
    ]
    unmatched = [line for line, step in zip(lines, chosen, strict=True) if step is None]
    return Matches(runs, unmatched, heard.tells, heard.cues)


def _near_instructions(
    lines: Sequence[Line], instructions: Sequence[tuple[float, np.ndarray]]
) -> dict[int, np.ndarray]:
    """Return, by line, the best similarities of the instructions to whose times no other line begins nearer."""
    support: dict[int, np.ndarray] = {}
    for time, row in instructions:
        nearest = _nearest(lines, time)
        if nearest is not None:
            support[nearest] = np.maximum(support.get(nearest, row), row)
    return support


def _nearest(lines: Sequence[Line], time: float) -> int | None:
    """Return the line that begins nearest to a time, None if none does within NEAR_S."""
    row = min(range(len(lines)), key=lambda row: abs(lines[row].start - time), default=None)
    return row if row is not None and abs(lines[row].start - time) <= NEAR_S else None
