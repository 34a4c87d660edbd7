"""Finds which step each annotated line, and each sentence of a dialog, is about."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dst_dist.build.align import Costs, align
from dst_dist.build.evidence import Evidence, Line
from dst_dist.build.similarity import Similarity, compare
from dst_dist.build.speech import BACK, TELL, Sentence, acts_like, begins_by_answer, clauses, without_cue
from dst_dist.build.steps import Step
from dst_dist.build.words import GROUP_OF, stem, telling

NESTED_SHARE = 0.3
SPOKEN_SHARE = 0.5
"""How much of what a nested line, or an instruction at a line's start, has over the line itself is added to it."""
NEAR_S = 3.0
"""Seconds between an instruction and the start of the line that it may be about."""
SPOKEN = Costs(threshold=0.3, skip=0.005, back=0.02)
NAMED = 0.3
"""Similarity from which a sentence names a step."""
MEANT = 0.2
"""Similarity from which what is left of a sentence without its cue names a step."""
CLEARLY = 0.6
"""Share of the best similarity from which the step at hand is meant all the same."""
_UNDOING = re.compile(
    r"\b(detach\w*|unscrew\w*|disassembl\w*|undo\w*|dismantl\w*|disconnect\w*|unplug\w*|remov\w*"
    r"|(?:tak|pull|lift)\w*\b.*\b(?:off|out|apart)|loosen\w*|unfasten\w*)\b",
    re.IGNORECASE,
)
_SURELY_UNDOING = re.compile(
    r"\b(detach\w*|unscrew\w*|disassembl\w*|undo\w*|dismantl\w*|disconnect\w*)\b", re.IGNORECASE
)
_JOINING = {GROUP_OF[stem(word)] for word in ("attach", "insert", "screw")}


@dataclass(frozen=True)
class Run:
    """A piece of work on a step, by its place among the steps: seconds, `end` None where nothing says so."""

    step: int
    start: float
    end: float | None
    is_undoing: bool = False
    similarity: float = 1.0


@dataclass(frozen=True)
class Tell:
    """A sentence that tells a step."""

    time: float
    step: int
    similarity: float


@dataclass(frozen=True)
class Cue:
    """A sentence that may hold, take up, end or undo a step. `similarities` are those with all steps."""

    sentence: Sentence
    similarities: tuple[float, ...]

    def subject(self, begun: Sequence[int]) -> int | None:
        """Return the step that it is about: the one at hand, unless another is clearly named.

        Args:
            begun: the steps that have begun, the one at hand last.
        """
        best = max(self.similarities)
        named = [step for step in begun if self.similarities[step] >= CLEARLY * best]
        if best < MEANT or (begun and begun[-1] in named):
            return begun[-1] if begun else None
        return max(named or range(len(self.similarities)), key=lambda step: self.similarities[step])


@dataclass(frozen=True)
class Matches:
    """What a dialog's evidence is about.

    `runs` has one for each line that is about a step, `unmatched` the other lines; `tells` and `cues` are spoken.
    """

    runs: list[Run]
    tells: list[Tell]
    cues: list[Cue]
    unmatched: list[Line]


def match(
    steps: Sequence[Step], evidence: Evidence, sentences: Sequence[Sentence], similarity: Similarity, costs: Costs
) -> Matches:
    """Return which step each line and sentence is about."""
    lines = evidence.lines
    named = compare(similarity, [sentence.text for sentence in sentences], steps)
    meant = compare(similarity, [without_cue(sentence) for sentence in sentences], steps)
    sentences = [_settle(sentence, row, steps) for sentence, row in zip(sentences, named, strict=True)]
    scores = _score_lines(steps, lines, similarity)
    for row, support in _near_instructions(lines, sentences, named).items():
        scores[row] += SPOKEN_SHARE * np.maximum(0, support - scores[row])
    chosen = align(scores, costs)
    pairs = [(line, step, row[step]) for line, step, row in zip(lines, chosen, scores, strict=True) if step is not None]
    runs = [Run(step, line.start, line.end, _undoes(line, steps[step]), float(score)) for line, step, score in pairs]
    return Matches(
        runs=_without_doubtful_undoing(runs, pairs, steps),
        tells=_tells(steps, sentences, named, similarity),
        cues=[
            Cue(sentence, tuple(map(float, row)))
            for sentence, row in zip(sentences, meant, strict=True)
            if sentence.act not in (None, TELL)
        ],
        unmatched=[line for line, step in zip(lines, chosen, strict=True) if step is None],
    )


def _settle(sentence: Sentence, row: np.ndarray, steps: Sequence[Step]) -> Sentence:
    """Return the sentence as one that tells, if its cue is a word of the step itself, such as `Remove the bolt.`"""
    best = int(row.argmax())
    if sentence.act in (None, TELL) or row[best] < NAMED or not acts_like(sentence.act, steps[best].name):
        return sentence
    return replace(sentence, act=TELL if sentence.may_tell else None)


def _score_lines(steps: Sequence[Step], lines: Sequence[Line], similarity: Similarity) -> np.ndarray:
    """Return float64 [lines, steps]; nested lines and a correction's quoted line count a part."""
    texts = [line.text for line in lines]
    below = [(row, text) for row, line in enumerate(lines) for text in [*line.nested, line.corrected] if text]
    scores = compare(similarity, [*texts, *(text for _, text in below)], steps)
    own, nested = scores[: len(texts)], scores[len(texts) :]
    best = own.copy()
    for (row, _), score in zip(below, nested, strict=True):
        best[row] = np.maximum(best[row], score)
    return own + NESTED_SHARE * (best - own)


def _near_instructions(
    lines: Sequence[Line], sentences: Sequence[Sentence], named: np.ndarray
) -> dict[int, np.ndarray]:
    """Return, by line, the best similarity of the instructions to whose times no other line begins nearer."""
    support: dict[int, np.ndarray] = {}
    starts = np.array([line.start for line in lines])
    for sentence, row in zip(sentences, named, strict=True):
        if sentence.act != TELL or not len(starts):
            continue
        nearest = int(np.abs(starts - sentence.time).argmin())
        if abs(starts[nearest] - sentence.time) <= NEAR_S:
            support[nearest] = np.maximum(support.get(nearest, row), row)
    return support


def _undoes(line: Line, step: Step) -> bool:
    """Return whether a line takes back what its step does."""
    return bool(_UNDOING.search(line.text)) and not _UNDOING.search(step.name)


def _without_doubtful_undoing(
    runs: list[Run], pairs: Sequence[tuple[Line, int, float]], steps: Sequence[Step]
) -> list[Run]:
    """Return the runs, those that undo only where something is there to be undone.

    Taking a pan off the stove is part of frying; taking off a part that was attached is not. So a plain `remove` counts
    only of joined parts, after a mistake, or if the step is done again.
    """
    kept = []
    for place, (run, (line, step, _)) in enumerate(zip(runs, pairs, strict=True)):
        before = [other for other in runs[:place] if other.step == step and not other.is_undoing]
        after = [other for other in runs[place + 1 :] if other.step == step and not other.is_undoing]
        is_joined = any(GROUP_OF.get(word) in _JOINING for word in telling(steps[step].name))
        is_marked = bool(line.mark) or any(other.mark for other, owner, _ in pairs[:place] if owner == step)
        is_sure = bool(_SURELY_UNDOING.search(line.text)) or is_joined or is_marked or bool(after)
        if run.is_undoing and not (before and is_sure):
            run = Run(run.step, run.start, run.end, False, run.similarity)
        kept.append(run)
    return kept


def _tells(
    steps: Sequence[Step], sentences: Sequence[Sentence], named: np.ndarray, similarity: Similarity
) -> list[Tell]:
    """Return the instructions with their steps, without answers to a question about that step, and what comes later."""
    rows, told = [], []
    questions = compare(similarity, [sentence.answers for sentence in sentences], steps)
    for sentence, whole, asked in zip(sentences, named, questions, strict=True):
        if not (sentence.act == TELL or (sentence.act == BACK and sentence.may_tell)):
            continue
        row = _first_clause(sentence.text, whole, steps, similarity)
        if asked.max() >= NAMED and asked.argmax() == row.argmax() and not begins_by_answer(sentence):
            continue
        rows.append(row)
        told.append(sentence)
    chosen = align(np.array(rows).reshape(-1, len(steps)), SPOKEN)
    return [Tell(told[n].time, step, float(rows[n][step])) for n, step in enumerate(chosen) if step is not None]


def _first_clause(text: str, whole: np.ndarray, steps: Sequence[Step], similarity: Similarity) -> np.ndarray:
    parts = clauses(text)
    if len(parts) < 2:
        return whole
    rows = compare(similarity, parts, steps)
    later = rows[1:].max(axis=0)
    is_other = rows[0].max() >= NAMED and later.max() >= NAMED and rows[0].argmax() != later.argmax()
    return rows[0] if is_other else whole
