"""The dialog state: the transitions of a step, and updates and states as text."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

NOT_STARTED = "not_started"
STATUSES = (NOT_STARTED, "in_progress", "completed", "paused", "cancelled", "failed")

TRANSITIONS: dict[str, tuple[frozenset[str], str]] = {
    "start": (frozenset({NOT_STARTED}), "in_progress"),
    "complete": (frozenset({"in_progress"}), "completed"),
    "pause": (frozenset({"in_progress"}), "paused"),
    "resume": (frozenset({"paused"}), "in_progress"),
    "cancel": (frozenset({"in_progress", "paused"}), "cancelled"),
    "reset": (frozenset(STATUSES), NOT_STARTED),
}
"""Name -> (statuses it may start from, status it leads to). `failed` comes only in an initial state."""


class Transition(NamedTuple):
    """One change of one step, for example ``Transition("S1", "start")``."""

    id: str
    transition: str


def apply_transition(state: Mapping[str, str], change: Transition) -> tuple[dict[str, str], bool]:
    """Return the state after one transition, and whether it was legal; an illegal one leaves the state alone.

    Steps that `state` does not name are not started. `state` itself is never changed.
    """
    status, legal = apply_to_status(state.get(change.id, NOT_STARTED), change.transition)
    return ({**state, change.id: status} if legal else dict(state)), legal


def apply_to_status(status: str, transition: str) -> tuple[str, bool]:
    """Return a step's status after a transition, and whether it was legal; an illegal one leaves the status alone."""
    allowed, after = TRANSITIONS[transition]
    return (after, True) if status in allowed else (status, False)


def apply_update(state: Mapping[str, str], transitions: Sequence[Transition]) -> tuple[dict[str, str], int]:
    """Return the state after all transitions of an update, in order, and how many of them were illegal."""
    after, num_illegal = dict(state), 0
    for change in transitions:
        after, legal = apply_transition(after, change)
        num_illegal += not legal
    return after, num_illegal


def without_not_started(state: Mapping[str, str]) -> dict[str, str]:
    """Return the state in its shortest form, so that equal states compare equal."""
    return {step: status for step, status in state.items() if status != NOT_STARTED}


@lru_cache(4096)
def format_update(transitions: tuple[Transition, ...]) -> str:
    """Return an update as the text that the model learns to write: ``[{"id": "S1", "transition": "start"}]``."""
    return json.dumps([change._asdict() for change in transitions], ensure_ascii=False)


def parse_update(text: str, step_ids: Sequence[str]) -> tuple[Transition, ...]:
    """Return the transitions of a text that `format_update` could have written.

    Raises:
        ValueError: if it is anything else than a JSON list of objects with `id` (a declared step) and `transition`.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, list) or not content:
        raise ValueError("an update is a list of at least one transition")
    for entry in content:
        if not isinstance(entry, dict) or entry.keys() != {"id", "transition"}:
            raise ValueError(f"a transition has id and transition, found {entry!r}")
        # A model may write a list here, which has no hash to look up.
        if entry["id"] not in step_ids or entry["transition"] not in list(TRANSITIONS):
            raise ValueError(f"unknown step or transition: {entry!r}")
    return tuple(Transition(entry["id"], entry["transition"]) for entry in content)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object as a dict. Raises ValueError if a key is repeated."""
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError(f"a key is repeated in {named!r}")
    return named


def format_state(state: Mapping[str, str], step_ids: Sequence[str]) -> str:
    """Return ``S1 completed, S2 in_progress`` in the order of the steps, or ``none`` if nothing has started."""
    named = [f"{step} {state[step]}" for step in step_ids if state.get(step, NOT_STARTED) != NOT_STARTED]
    return ", ".join(named) or "none"
