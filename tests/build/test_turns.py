"""Turns at decision frames: order at a frame, states, ranges, cutting."""

import pytest

from dst_dist.build.dialogs import Turn
from dst_dist.build.rates import Rate
from dst_dist.build.spans import Change
from dst_dist.build.steps import Step
from dst_dist.build.turns import cut, in_order, place_turns
from dst_dist.data.reading_log import Report

STEPS = [Step(1, "Boil."), Step(2, "Pour."), Step(3, "Stir.")]


def user(time: float, text: str = "u") -> Turn:
    return Turn(role="user", time=time, content=text)


def reply(time: float, text: str = "a") -> Turn:
    return Turn(role="assistant", time=time, content=text, labels="initiative|instruction")


def placed(turns: list[Turn], changes: list[Change], num_rows: int | None = None) -> list[tuple]:
    """(frame, role, content), an update's content as `S1 start`."""
    found, _ = place_turns(turns, changes, STEPS, Rate(2.0, num_rows))
    return [(turn["frame"], turn["role"], _content(turn)) for turn in found]


def _content(turn: dict) -> str:
    if turn["role"] != "DST_UPDATE":
        return turn["content"]
    return ", ".join(f"{change['id']} {change['transition']}" for change in turn["content"])


@pytest.mark.parametrize(
    ("turns", "changes", "found"),
    [
        pytest.param(
            [user(1), reply(1)],
            [Change(1.2, 0, "start")],
            [(2, "user", "u"), (2, "DST_UPDATE", "S1 start"), (2, "assistant", "a")],
            id="user, update, reply",
        ),
        pytest.param(
            [reply(1, "a"), user(1.1), reply(1.2, "b")],
            [],
            [(2, "user", "u"), (2, "assistant", "a b")],
            id="replies of a frame are joined behind the user",
        ),
        pytest.param(
            [user(3), reply(2)], [], [(6, "user", "u"), (6, "assistant", "a")], id="a reply is not before its user"
        ),
        pytest.param(
            [],
            [Change(4.9, 0, "start"), Change(5.0, 0, "complete"), Change(5.0, 1, "start")],
            [(9, "DST_UPDATE", "S1 start"), (10, "DST_UPDATE", "S1 complete, S2 start")],
            id="updates of a frame are one",
        ),
        pytest.param(
            [],
            [Change(5.0, 1, "start"), Change(5.0, 0, "start"), Change(5.2, 0, "complete")],
            [(10, "DST_UPDATE", "S2 start, S1 start, S1 complete")],
            id="a step within one frame",
        ),
        pytest.param(
            [],
            [
                Change(1, 0, "start"),
                Change(2, 0, "complete"),
                Change(2, 0, "reset"),
                Change(2, 0, "start"),
                Change(2.2, 2, "start"),
            ],
            [(2, "DST_UPDATE", "S1 start"), (4, "DST_UPDATE", "S1 complete, S1 reset, S1 start, S3 start")],
            id="kinds in their order",
        ),
    ],
)
def test_what_stands_at_a_frame(turns, changes, found):
    assert placed(turns, changes) == found


def test_what_is_beyond_the_file_is_left_out_and_counted():
    turns, num_beyond = place_turns([user(1), reply(5)], [Change(5, 0, "start")], STEPS, Rate(2.0, 10))
    assert [turn["frame"] for turn in turns] == [2] and num_beyond == 2


def test_the_state_is_the_one_before_the_turn_and_names_steps_seen():
    changes = [Change(1, 1, "start"), Change(3, 1, "complete"), Change(4, 1, "reset")]
    turns, _ = place_turns([user(1), reply(1), user(9)], changes, STEPS, Rate(2.0, None))
    states = [turn["dst_state"] for turn in turns]
    assert states == [{}, {}, {"S2": "in_progress"}, {"S2": "in_progress"}, {"S2": "completed"}, {"S2": "not_started"}]


@pytest.mark.parametrize(
    ("start", "length", "ranges"),
    [
        (0, None, [(0, 21)]),
        (2, None, [(2, 21)]),
        (0, 10, [(0, 10), (10, 20), (20, 21)]),
        (0, 8, [(0, 8), (8, 16), (16, 21)]),
        (2, 6, [(2, 8), (8, 14), (14, 20), (20, 21)]),
    ],
)
def test_cutting_by_length(start, length, ranges):
    changes = [Change(1, 0, "start"), Change(10, 0, "complete")]
    turns, _ = place_turns([user(4), reply(5)], changes, STEPS, Rate(2.0, None))
    clips = cut(turns, start, length)
    assert [(clip["start_frame_idx"], clip["end_frame_idx"]) for clip in clips] == ranges
    for clip in clips:
        for turn in clip["conversation"][1:]:
            assert clip["start_frame_idx"] <= turn["start_frame"] < turn["end_frame"] <= clip["end_frame_idx"]
    # S1 is in progress after frame 2, until frame 20.
    states = [{"S1": "in_progress"} if 2 < first <= 20 else {} for first, _ in ranges]
    assert [clip["initial_dst_state"] for clip in clips] == states
    assert sum(len(clip["conversation"]) - 1 for clip in clips) == 4


@pytest.mark.parametrize(
    ("turns", "texts", "counted"),
    [
        ([user(1, "a"), reply(2, "b"), user(9, "c")], "abc", []),
        ([user(1, "a"), reply(9, "b"), reply(8.5, "c")], "abc", ["1 turns earlier than the one above them"]),
        ([user(30, "a"), reply(2, "b"), reply(31, "c")], "abc", ["1 turns earlier than the one above them"]),
        ([user(45, "a"), reply(4, "b"), reply(21, "c")], "cab", ["1 dialogs whose turns were put in order of time"]),
        ([reply(45, "a"), user(1, "b"), reply(4, "c")], "bca", ["1 dialogs whose turns were put in order of time"]),
        ([user(1, "a"), reply(2100, "b"), reply(33, "c")], "acb", ["1 dialogs whose turns were put in order of time"]),
    ],
)
def test_turns_that_are_out_of_order_are_counted(turns, texts, counted):
    """One wrong time moves its own turn alone; an answer stays behind its question."""
    report = Report()
    assert "".join(turn.content for turn in in_order(turns, "tea/0", report)) == texts
    assert [line.partition(",")[0] for line in report.lines()] == counted
