"""Transitions that are found in steps, lines and dialogs written for a test."""

from dst_dist.build.align import Costs
from dst_dist.build.evidence import Said, read_evidence
from dst_dist.build.matching import Matches, match
from dst_dist.build.similarity import tfidf
from dst_dist.build.spans import find_changes
from dst_dist.build.speech import read_sentences
from dst_dist.build.steps import Step, read_steps
from dst_dist.build.untimed import place_untimed

INSTRUCTION = "initiative|instruction"


def said(*turns: tuple[float, str, str] | tuple[float, str, str, str]) -> list[Said]:
    """Turns as (time, role, text) with an instruction's labels, or with labels of their own."""
    default = {"assistant": INSTRUCTION, "user": ""}
    return [Said(*turn) if len(turn) == 4 else Said(*turn, default[turn[1]]) for turn in turns]


def matches(knowledge: str, descriptions: str, *turns: tuple) -> tuple[Matches, list[Step]]:
    steps, evidence = read_steps(knowledge), read_evidence(descriptions)
    spoken = sorted([*said(*turns), *evidence.said], key=lambda turn: turn.time)
    return match(steps, evidence, read_sentences(spoken), tfidf, Costs()), steps


def changes(knowledge: str, descriptions: str, *turns: tuple) -> list[str]:
    """Return transitions such as `4.2 S1 start`, in order of time."""
    found, steps = matches(knowledge, descriptions, *turns)
    placed = place_untimed(steps, read_evidence(descriptions), tfidf)
    return [f"{change.time:g} {steps[change.step].id} {change.transition}" for change in find_changes(found, placed)]
