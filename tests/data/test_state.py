"""The state machine of a step, and updates and states as text."""

import itertools

import pytest

from dst_dist.data.state import (
    STATUSES,
    TRANSITIONS,
    Transition,
    apply_transition,
    apply_update,
    format_state,
    format_update,
    without_not_started,
)

# The whole machine, written out by hand: (status before, transition) -> status after. All else is illegal.
LEGAL = {
    ("not_started", "start"): "in_progress",
    ("in_progress", "complete"): "completed",
    ("in_progress", "pause"): "paused",
    ("paused", "resume"): "in_progress",
    ("in_progress", "cancel"): "cancelled",
    ("paused", "cancel"): "cancelled",
    ("not_started", "reset"): "not_started",
    ("in_progress", "reset"): "not_started",
    ("completed", "reset"): "not_started",
    ("paused", "reset"): "not_started",
    ("cancelled", "reset"): "not_started",
    ("failed", "reset"): "not_started",
}
NAMES = ("start", "complete", "pause", "resume", "cancel", "reset")


def test_the_names_are_those_of_the_data():
    assert STATUSES == ("not_started", "in_progress", "completed", "paused", "cancelled", "failed")
    assert tuple(TRANSITIONS) == NAMES


@pytest.mark.parametrize(("status", "name"), list(itertools.product(STATUSES, NAMES)))
def test_every_transition_from_every_status(status, name):
    before = {"S1": status, "S2": "paused"}
    after, legal = apply_transition(before, Transition("S1", name))
    assert legal == ((status, name) in LEGAL)
    assert after == {"S1": LEGAL.get((status, name), status), "S2": "paused"}
    assert before == {"S1": status, "S2": "paused"}, "the state given must not change"


def test_a_step_not_named_is_not_started():
    assert apply_transition({}, Transition("S7", "start")) == ({"S7": "in_progress"}, True)
    assert apply_transition({}, Transition("S7", "complete")) == ({}, False)


def test_nothing_leads_to_failed():
    assert "failed" not in {after for _, after in TRANSITIONS.values()}


def test_an_update_applies_in_order_and_counts_what_is_illegal():
    changes = [
        Transition("S1", "complete"),
        Transition("S2", "complete"),  # illegal: not started
        Transition("S2", "start"),
        Transition("S2", "start"),  # illegal: already in progress
        Transition("S2", "pause"),
    ]
    before = {"S1": "in_progress"}
    assert apply_update(before, changes) == ({"S1": "completed", "S2": "paused"}, 2)
    assert before == {"S1": "in_progress"}
    assert apply_update(before, []) == (before, 0)


def test_update_text():
    assert format_update((Transition("S1", "start"),)) == '[{"id": "S1", "transition": "start"}]'
    assert format_update((Transition("Schritt ö", "complete"), Transition("S2", "start"))) == (
        '[{"id": "Schritt ö", "transition": "complete"}, {"id": "S2", "transition": "start"}]'
    )


def test_state_text_is_in_the_order_of_the_steps():
    state = {"S2": "in_progress", "S3": "not_started", "S1": "completed"}
    assert format_state(state, ["S1", "S2", "S3", "S4"]) == "S1 completed, S2 in_progress"
    assert format_state({"S1": "not_started"}, ["S1"]) == "none"
    assert format_state({}, []) == "none"


def test_equal_states_have_one_shortest_form():
    assert without_not_started({"S1": "not_started", "S2": "failed"}) == {"S2": "failed"}
