"""Transitions that are found in steps, lines and dialogs written for a test."""

from dst_dist.build.align import Costs
from dst_dist.build.dialogs import Turn
from dst_dist.build.evidence import read_evidence
from dst_dist.build.matching import Matches, Task, match, read_task
from dst_dist.build.similarity import tfidf
from dst_dist.build.spans import find_changes
from dst_dist.build.speech import read_sentences
from dst_dist.build.steps import read_steps

INSTRUCTION = "initiative|instruction"


def spoken(time: float, role: str, text: str, labels: str = "") -> Turn:
    return Turn(time=time, role=role, content=text, labels=labels)


def said(*turns: tuple[float, str, str] | tuple[float, str, str, str]) -> list[Turn]:
    """Turns as (time, role, text) with an instruction's labels, or with labels of their own."""
    default = {"assistant": INSTRUCTION, "user": ""}
    return [spoken(*turn) if len(turn) == 4 else spoken(*turn, default[turn[1]]) for turn in turns]


def matches(knowledge: str, descriptions: str, *turns: tuple) -> tuple[Matches, Task]:
    task = read_task(read_steps(knowledge), read_evidence(descriptions), tfidf)
    in_order = sorted([*said(*turns), *task.evidence.said], key=lambda turn: turn.time)
    return match(task, read_sentences(in_order), tfidf, Costs()), task


def changes(knowledge: str, descriptions: str, *turns: tuple) -> list[str]:
    """Return transitions such as `4.2 S1 start`, in order of time."""
    found, task = matches(knowledge, descriptions, *turns)
    listed = find_changes(found, task.untimed)
    return [f"{change.time:g} {task.steps[change.step].id} {change.transition}" for change in listed]
