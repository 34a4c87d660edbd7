"""The dialog state that a clip opens with: where its sources disagree, the rest of the clip decides."""

from collections.abc import Iterator, Mapping
from typing import Any

from dst_dist.data.formats.schema import Turns
from dst_dist.data.reading_log import ClipLog
from dst_dist.data.state import NOT_STARTED, Transition, apply_transition

DISBELIEVED = "clips whose initial_dst_state the rest of them contradicts, which is believed"


def initial_state(
    given: Mapping[str, str] | None, in_prompt: Mapping[str, str], turns: Turns, log: ClipLog
) -> dict[str, str]:
    """Return each step's status at the opening.

    Statements about it are `initial_dst_state`, the prompt's words, and every `dst_state` up to the first update of
    the step: a `dst_state` is the state before its turn and names only the steps seen so far, so one that it does not
    name may have any status. Of the statuses that they give, and `not_started`, the one is taken from which the most of
    the clip follows: statements that come true and transitions that are allowed. The first of them wins a tie.

    Args:
        given: `initial_dst_state`; None if the clip has none. A step that it leaves out is not started.
    """
    firsts = [said for said in (given, in_prompt) if said]
    steps = dict.fromkeys(step for said in (*firsts, *_named(turns)) for step in said)
    state = {step: _status(step, [said[step] for said in firsts if step in said], turns) for step in steps}
    wrong = [step for step in steps if given is not None and given.get(step, NOT_STARTED) != state[step]]
    if wrong:
        log.contradiction(DISBELIEVED, detail=", ".join(f"{step} opens as {state[step]}" for step in wrong))
    return state


def _named(turns: Turns) -> Iterator[Mapping[str, str]]:
    return (turn.dst_state for _, turn in turns if turn.dst_state)


def _status(step: str, stated: list[str], turns: Turns) -> str:
    """Return the best supported status of a step at the opening; `stated` are those that are said of it outright."""
    history = list(_history(step, turns))
    first_change = next((place for place, what in enumerate(history) if isinstance(what, Transition)), len(history))
    candidates = dict.fromkeys([*stated, *history[:first_change], NOT_STARTED])
    if len(candidates) == 1:
        return NOT_STARTED
    return max(candidates, key=lambda status: stated.count(status) + _support(step, status, history))


def _history(step: str, turns: Turns) -> Iterator[str | Transition]:
    """Yield what the turns say of a step, in order: its status, and its transitions."""
    for _, turn in turns:
        if turn.dst_state and step in turn.dst_state:
            yield turn.dst_state[step]
        if turn.role == "DST_UPDATE":
            yield from (change for change in turn.transitions if change.id == step)


def _support(step: str, status: str, history: list[Any]) -> int:
    """Return how much of a step's history follows from a status at the opening."""
    state, number = {step: status}, 0
    for what in history:
        if isinstance(what, Transition):
            state, is_allowed = apply_transition(state, what)
            number += is_allowed
        else:
            number += state[step] == what
    return number
