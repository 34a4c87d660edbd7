"""Finds which steps the sentences of a dialog tell, and which they hold, end or undo."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dst_dist.build.align import Costs, align
from dst_dist.build.similarity import Similarity, compare
from dst_dist.build.speech import BACK, TELL, Sentence, acts_like, begins_by_answer, clauses, without_cue
from dst_dist.build.steps import Step
from dst_dist.build.words import DOING, telling

COSTS = Costs(threshold=0.22, skip=0.005, back=0.02)
"""Costs of aligning instructions: they name a step more plainly than lines, and their order says less."""
NAMED = 0.3
"""Similarity from which a sentence names a step."""
MEANT = 0.2
"""Similarity from which a sentence names a step to which its cue belongs, or which is left without its cue."""
CLEARLY = 0.75
"""Share of the best similarity from which the step at hand is meant all the same."""
_AT_HAND = re.compile(r"\b(it|them)\b", re.IGNORECASE)
_WITH_ARTICLE = re.compile(r"\b(the|an?|this|that|these|those|my|your|its|both|all)\s+\w", re.IGNORECASE)


@dataclass(frozen=True)
class Tell:
    """A sentence that tells a step, by the step's place; `time` in seconds."""

    time: float
    step: int
    similarity: float


@dataclass(frozen=True)
class Cue:
    """A sentence that may hold, take up, end or undo a step. `similarities` are those with all steps."""

    sentence: Sentence
    similarities: tuple[float, ...]

    def subject(self, begun: Sequence[int]) -> int | None:
        """Return the step that it is about: the one at hand, unless others are clearly named; then the last of these.

        Args:
            begun: the steps that have begun, the one at hand last.
        """
        best = max(self.similarities)
        named = [step for step in begun if self.similarities[step] >= CLEARLY * best]
        if best < MEANT or (begun and begun[-1] in named):
            return begun[-1] if begun else None
        return named[-1] if named else self.similarities.index(best)


@dataclass(frozen=True)
class Heard:
    """Sentences of a dialog matched to steps.

    `instructions` are all that may tell a step, with their similarities; `orders` the times of those of the assistant.
    """

    tells: list[Tell]
    cues: list[Cue]
    instructions: list[tuple[float, np.ndarray]]
    orders: list[float]


def hear(sentences: Sequence[Sentence], steps: Sequence[Step], similarity: Similarity) -> Heard:
    """Return what the sentences of a dialog, in order, are about."""
    texts = [
        [sentence.text, without_cue(sentence), sentence.answers, *clauses(sentence.text)] for sentence in sentences
    ]
    unique = list(dict.fromkeys(text for some in texts for text in some))
    rows = dict(zip(unique, compare(similarity, unique, steps), strict=True))
    settled = [_settle(sentence, rows[sentence.text], steps) for sentence in sentences]
    return Heard(
        tells=_tells(settled, rows, len(steps)),
        cues=[
            Cue(sentence, tuple(rows[without_cue(sentence)].tolist()))
            for sentence in settled
            if sentence.act not in (None, TELL)
        ],
        instructions=[(sentence.time, rows[sentence.text]) for sentence in settled if sentence.act == TELL],
        orders=[sentence.time for sentence in settled if sentence.act == TELL and sentence.role == "assistant"],
    )


def _settle(sentence: Sentence, row: np.ndarray, steps: Sequence[Step]) -> Sentence:
    """Return the sentence as one that tells, if its cue is a word of the step itself, such as `Remove the bolt.`"""
    best = int(row.argmax())
    if sentence.act in (None, TELL) or row[best] < MEANT or not acts_like(sentence.act, steps[best].name):
        return sentence
    return replace(sentence, act=TELL if sentence.may_tell else None)


def _goes_on(text: str) -> bool:
    """Return whether a sentence is about the thing at hand and names none, such as `Now screw it on.`"""
    return bool(_AT_HAND.search(text)) and not _WITH_ARTICLE.search(text) and DOING.issuperset(telling(text))


def _tells(sentences: Sequence[Sentence], rows: dict[str, np.ndarray], num_steps: int) -> list[Tell]:
    """Return the instructions with their steps, without answers to a question about that step, and what comes later."""
    found = []
    for sentence in sentences:
        if not (sentence.act == TELL or (sentence.act == BACK and sentence.may_tell)) or _goes_on(sentence.text):
            continue
        row, asked = _first_clause(sentence.text, rows), rows[sentence.answers]
        if asked.max() < NAMED or asked.argmax() != row.argmax() or begins_by_answer(sentence):
            found.append((sentence, row))
    chosen = align(np.array([row for _, row in found]).reshape(-1, num_steps), COSTS)
    return [
        Tell(sentence.time, step, float(row[step]))
        for (sentence, row), step in zip(found, chosen, strict=True)
        if step is not None
    ]


def _first_clause(text: str, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Return the similarities of a sentence, of its first clause alone if the others tell a later step."""
    first, *others = [rows[clause] for clause in clauses(text)] or [rows[text]]
    if not others:
        return rows[text]
    later = np.max(others, axis=0)
    is_other = first.max() >= NAMED and later.max() >= NAMED and first.argmax() != later.argmax()
    return first if is_other else rows[text]
