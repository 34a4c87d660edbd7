"""Values of the right type that make no sense together: ranges, steps, updates, ids."""

import pytest

from tests.data.bad_data import FILE, SOUP, TEA, change, check_fault, dialog, frames, proassist, prospect, turn, turns
from tests.data.handmade import prospect_clip, spoken, step, write_prospect

MEANING = {
    "fps is zero": (prospect(fps=0), (TEA, "`fps`", "greater than 0", "found 0")),
    "fps is negative": (prospect(fps=-2), (TEA, "`fps`", "greater than 0", "found -2")),
    "fps is infinite": (prospect(fps=float("inf")), (TEA, "`fps`", "finite", "found inf")),
    "end is start": (prospect(end_frame_idx=2), (TEA, "`end_frame_idx` must be above start_frame_idx 2", "found 2")),
    "end before start": (proassist(end_frame_idx=1), (SOUP, "`end_frame_idx` must be above", "found 1")),
    "turn before the clip": (
        turn(start_frame=1),
        (f"{TEA}, turn 2 (user)", "frames [1, 4) must be a part", "clip's [2, 10)"),
    ),
    "turn after the clip": (turn(end_frame=11), (f"{TEA}, turn 2 (user)", "frames [2, 11)", "clip's [2, 10)")),
    "turn without frames": (turn(start_frame=4), (f"{TEA}, turn 2 (user)", "frames [4, 4)", "not empty")),
    "turn ends before it starts": (turn(end_frame=1), (f"{TEA}, turn 2 (user)", "frames [2, 1)", "not empty")),
    "turns out of order": (
        turns(spoken("user", "a", 5, 8), spoken("assistant", "b", 4, 7)),
        (f"{TEA}, turn 2 (assistant)", "decision frame 6", "before the one above it, 7", "sort turns by time"),
    ),
    "steps are no list": (prospect(dst={"S1": "x"}), (TEA, "`dst` must be the list", "found {'S1': 'x'}")),
    "step is no object": (prospect(dst=["S1", "S2"]), (f"{TEA}, dst[1]", "must be an object", "found 'S2'")),
    "step without id": (prospect(dst=[{"name": "x"}]), (f"{TEA}, dst[0]", "`id` is missing")),
    "step without name": (prospect(dst=[{"id": "S1", "name": " "}]), (f"{TEA}, dst[0]", "`name` must say something")),
    "step time is text": (prospect(dst=[{**step(1, "x"), "end_ts": "1:20"}]), (f"{TEA}, dst[0]", "`end_ts`", "'1:20'")),
    "step id twice": (
        prospect(dst=[step(1, "a"), step(2, "b"), step(1, "c")]),
        (TEA, "`dst` declares 'S1' more than once", "its own id"),
    ),
    "update of an unknown step": (
        change([{"id": "S9", "transition": "start"}]),
        (f"{TEA}, turn 1 (DST_UPDATE)", "`content` names 'S9'", "does not declare"),
    ),
    "dst_state of an unknown step": (
        turn(dst_state={"S9": "completed"}),
        (f"{TEA}, turn 2 (user)", "`dst_state` names 'S9'", "does not declare"),
    ),
    "initial state of an unknown step": (
        prospect(initial_dst_state={"S9": "failed"}),
        (TEA, "`initial_dst_state` names 'S9'", "does not declare"),
    ),
    "unknown status": (
        turn(dst_state={"S1": "done"}),
        (f"{TEA}, turn 2 (user)", "`dst_state.S1`", "'completed'", "found 'done'"),
    ),
    "unknown initial status": (
        prospect(initial_dst_state={"S1": "begun"}),
        (TEA, "`initial_dst_state.S1`", "'in_progress'", "found 'begun'"),
    ),
    "dst_state is a list": (turn(dst_state=[]), (f"{TEA}, turn 2 (user)", "`dst_state`", "dictionary", "found []")),
    "unknown transition": (
        change([{"id": "S1", "transition": "begin"}]),
        (f"{TEA}, turn 1 (DST_UPDATE)", "`content[0].transition`", "'start'", "found 'begin'"),
    ),
    "empty update": (change([]), (f"{TEA}, turn 1 (DST_UPDATE)", "`content`", "at least 1 item", "found []")),
    "update is no list": (change({"id": "S1"}), (f"{TEA}, turn 1 (DST_UPDATE)", "`content`", "valid list")),
    "update text is no JSON": (
        change("start S1"),
        (f"{TEA}, turn 1 (DST_UPDATE)", "`content`", "list of transitions", "found 'start S1'"),
    ),
    "update text of another shape": (
        change('{"id": "S1"}'),
        (f"{TEA}, turn 1 (DST_UPDATE)", "`content`", "valid list", "found {'id': 'S1'}"),
    ),
    "update without id": (change([{"transition": "start"}]), (f"{TEA}, turn 1", "`content[0].id` is missing")),
    "illegal transition": (
        change([{"id": "S1", "transition": "complete"}]),
        (f"{TEA}, turn 1 (DST_UPDATE)", "complete of S1, which is not_started, is not allowed", "data.strict"),
    ),
    "the same id twice": (
        lambda root: write_prospect(root, [prospect_clip(id="one"), prospect_clip(id="one")]),
        (f"{FILE}: clip one", "used twice", "give every clip its own"),
    ),
    "frames turn outside the clip": (
        dialog(frames(2, 4), frames(9, 12)),
        (f"{SOUP}, turn 2 (frames)", "frames [9, 12)", "clip's [2, 10)", "from the start of the video"),
    ),
    "frames turn is empty": (dialog(frames(4, 4)), (f"{SOUP}, turn 1 (frames)", "frames [4, 4)", "not empty")),
    "frames turns overlap": (
        dialog(frames(2, 6), frames(5, 8)),
        (f"{SOUP}, turn 2 (frames)", "frames [5, 8) start before 6"),
    ),
}


@pytest.mark.parametrize("case", MEANING)
def test_wrong_meaning(tmp_path, case):
    check_fault(tmp_path / "root", *MEANING[case])
