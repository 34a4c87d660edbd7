"""The state that a clip opens with, where its sources disagree: the one from which the rest follows."""

import pytest

from dst_dist.data.formats.initial_state import DISBELIEVED
from dst_dist.errors import DataError
from tests.data.clip_files import read_one
from tests.data.handmade import PROMPT, make_root, prospect_clip, spoken, update

CONTRADICTING = "dst_state entries that contradict the transitions before them"
NOT_ALLOWED = "transitions that the step's status does not allow, state left alone"
NOTHING, DONE = {"S1": "not_started", "S2": "not_started"}, {"S1": "completed", "S2": "in_progress"}


def later(*states):
    """A clip that goes on after S1 was completed and S2 begun; each turn has its `dst_state`, if one is given."""
    turns = [spoken("user", "Go on.", 2, 3), update("S2", "complete", 4, 5), spoken("assistant", "Well done.", 6, 7)]
    return [{**turn, "dst_state": state} if state else turn for turn, state in zip(turns, states, strict=True)]


BEHIND = {"S1": "completed", "S2": "completed"}
CASES = {
    # given, the states of turns, prompt -> state at the opening, counted
    "nothing is given, turns say it": (None, (DONE, DONE, BEHIND), PROMPT, DONE, {}),
    "the given state is empty": ({}, (DONE, DONE, BEHIND), PROMPT, DONE, {DISBELIEVED: 1}),
    "the given state says that nothing began": (NOTHING, (DONE, DONE, BEHIND), PROMPT, DONE, {DISBELIEVED: 1}),
    "the given state is of the clip's end": (BEHIND, (DONE, DONE, BEHIND), PROMPT, DONE, {DISBELIEVED: 1}),
    "it is wrong of one step": ({**DONE, "S1": "paused"}, (DONE, DONE, BEHIND), PROMPT, DONE, {DISBELIEVED: 1}),
    "one turn alone says it": ({}, (DONE, None, None), PROMPT, DONE, {DISBELIEVED: 1}),
    "a turn behind the update says what it was": ({}, (None, DONE, BEHIND), PROMPT, DONE, {DISBELIEVED: 1}),
    "the given state is right and one turn wrong": (DONE, (NOTHING, DONE, BEHIND), PROMPT, DONE, {CONTRADICTING: 1}),
    "nothing is given and the first turn is wrong": (None, (NOTHING, DONE, BEHIND), PROMPT, DONE, {CONTRADICTING: 1}),
    "one word against another, and an update": ({"S2": "paused"}, ({"S2": "in_progress"}, None, None), PROMPT,
                                                {"S2": "in_progress"}, {DISBELIEVED: 1}),
    "the prompt alone says it": (None, (None, None, None), "State: S1 completed, S2 in_progress", DONE, None),
    "the prompt says it beside an empty state": ({}, (None, None, None), "State: S1 completed, S2 in_progress", DONE,
                                                 None),
    "nobody says it": ({}, (None, None, None), PROMPT, {}, {NOT_ALLOWED: 1}),
}  # fmt: skip


def clip_of(case):
    given, states, prompt, *_ = CASES[case]
    clip = prospect_clip(conversation=[{"role": "system", "content": prompt}, *later(*states)])
    return clip if given is None else {**clip, "initial_dst_state": given}


@pytest.mark.parametrize("case", CASES)
def test_the_state_from_which_the_rest_follows_is_believed_and_the_others_counted(tmp_path, case):
    *_, expected, counts = CASES[case]
    clip, report = read_one(make_root(tmp_path), clip_of(case), strict=False)
    assert clip.initial_state == expected
    if counts is not None:
        assert dict(report.counts) == counts
        assert all("clip kitchen/tea/0" in report.examples[kind][0] for kind in counts)


@pytest.mark.parametrize("case", [case for case, (*_, counts) in CASES.items() if counts])
def test_a_contradiction_is_a_fault_of_strict_data(tmp_path, case):
    with pytest.raises(DataError, match=r"clip kitchen/tea/0.*is not allowed: data\.strict refuses"):
        read_one(make_root(tmp_path), clip_of(case), strict=True)


def test_what_the_public_generator_writes_is_trained_as_legal(tmp_path):
    """An empty initial state of a clip from the middle of a video: its transitions are allowed after all."""
    clip, report = read_one(make_root(tmp_path), clip_of("the given state is empty"), strict=False)
    assert NOT_ALLOWED not in report.counts
    assert report.examples[DISBELIEVED] == ["clip kitchen/tea/0 (S1 opens as completed, S2 opens as in_progress)"]
    assert [change.transition for turn in clip.turns for change in turn.transitions] == ["complete"]
