"""Finds the dialog state that a clip opens with; where its sources disagree, the rest of the clip decides."""

import itertools
from collections import defaultdict
from collections.abc import Mapping

from dst_dist.data.formats.schema import Turns
from dst_dist.data.reading_log import ClipLog
from dst_dist.data.state import NOT_STARTED, Transition, apply_to_status

History = list[str | Transition]
"""Statuses and transitions of a step in its turns, in order."""
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
    histories: defaultdict[str, History] = defaultdict(list)
    for _, turn in turns:
        for step, status in (turn.dst_state or {}).items():
            histories[step].append(status)
        for change in turn.transitions if turn.role == "DST_UPDATE" else ():
            histories[change.id].append(change)
    steps = dict.fromkeys([*(step for said in firsts for step in said), *histories])
    state = {step: _status([said[step] for said in firsts if step in said], histories[step]) for step in steps}
    wrong = [step for step in steps if given is not None and given.get(step, NOT_STARTED) != state[step]]
    if wrong:
        log.contradiction(DISBELIEVED, detail=", ".join(f"{step} opens as {state[step]}" for step in wrong))
    return state


def _status(stated: list[str], history: History) -> str:
    """Return the best supported status of a step at the opening; `stated` are the statuses given for the opening."""
    before = itertools.takewhile(lambda what: not isinstance(what, Transition), history)
    candidates = dict.fromkeys([*stated, *before, NOT_STARTED])
    if len(candidates) == 1:
        return NOT_STARTED
    return max(candidates, key=lambda status: stated.count(status) + _support(status, history))


def _support(status: str, history: History) -> int:
    """Return how much of a step's history follows from a status at the opening."""
    number = 0
    for what in history:
        if isinstance(what, Transition):
            status, is_allowed = apply_to_status(status, what.transition)
            number += is_allowed
        else:
            number += status == what
    return number
