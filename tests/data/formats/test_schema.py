"""Keys that are missing or of another type, in both formats: each fault says where and what."""

import json

import pytest

from tests.data.bad_data import (
    FILE,
    LINES,
    SOUP,
    TEA,
    check_fault,
    dialog,
    frames,
    proassist,
    prospect,
    text,
    turn,
    turns,
    without,
)
from tests.data.handmade import proassist_clip, prospect_clip, update, write_prospect

SHAPE = {
    "not JSON": (text(FILE, '[{"dataset": '), (FILE, "not valid JSON", "line 1 column 14", "complete?")),
    "cut off list": (text(FILE, json.dumps([prospect_clip()], indent=1)[:-9]), (FILE, "not valid JSON", "complete?")),
    "bad line": (
        text(LINES, json.dumps(proassist_clip()) + '\n{"dataset": \n'),
        (LINES, "line 2 is not valid JSON", "complete?"),
    ),
    "empty file": (text(FILE, ""), (FILE, "holds no clip", "leave it out")),
    "empty list": (text(FILE, "[]"), (FILE, "holds no clip", "leave it out")),
    "blank lines": (text(LINES, "\n \n"), (LINES, "holds no clip")),
    "not text": (text(FILE, b"\xff\xfe\x00["), (FILE, "not UTF-8")),
    "too deep": (text(FILE, "[" * 200_000), (FILE, "not valid JSON", "recursion depth exceeded")),
    "number instead of clips": (text(FILE, "7"), (FILE, "clip number 1", "of neither format", "found 7")),
    "list of numbers": (text(FILE, "[1, 2]"), (FILE, "clip number 2", "of neither format", "found 2")),
    "mapping of clips": (text(FILE, '{"a": {}}'), (FILE, "clip number 1", "neither format", "`conversation`", "`dst`")),
    "neither format": (without("dst"), (TEA, "of neither format", "`dst`", "frames")),
    "a clip is null": (lambda root: write_prospect(root, [None]), (FILE, "clip number 1", "found None")),
    "missing key": (without("fps"), (TEA, "`fps` is missing")),
    "missing conversation": (without("conversation"), (TEA, "`conversation` must be a list of turns")),
    "conversation is text": (prospect(conversation="hi"), (TEA, "`conversation` must be a list", "found 'hi'")),
    "conversation is empty": (prospect(conversation=[]), (TEA, "`conversation` must be a list", "found []")),
    "number as text": (prospect(start_frame_idx="2"), (TEA, "`start_frame_idx`", "valid integer", "found '2'")),
    "frame number with a fraction": (prospect(end_frame_idx=9.5), (TEA, "`end_frame_idx`", "integer", "found 9.5")),
    "true is no number": (prospect(clip_idx=True), (f"{FILE}: clip kitchen/tea/True", "`clip_idx`", "found True")),
    "text as number": (prospect(frames_file=5), (TEA, "`frames_file`", "valid string", "found 5")),
    "empty video_uid": (prospect(video_uid=""), ("`video_uid`", "at least 1 character")),
    "empty id": (prospect(id=""), (FILE, "`id`", "at least 1 character")),
    "goal missing": (without("inferred_goal"), (TEA, "`inferred_goal` is missing")),
    "half a surrogate pair": (prospect(inferred_goal="\ud800"), (TEA, "`inferred_goal`", "Unicode text")),
    "turn is no object": (turns("hello"), (TEA, "turn 1", "must be an object", "found 'hello'")),
    "unknown role": (turn(role="narrator"), (f"{TEA}, turn 2 (narrator)", "unknown role", "DST_UPDATE")),
    "role of the other format": (turns(frames(2, 4)), (f"{TEA}, turn 1 (frames)", "unknown role", "assistant")),
    "role missing": (turns({"content": "x"}), (f"{TEA}, turn 1", "unknown role None", "assistant")),
    "role is a list": (turn(role=["user"]), (f"{TEA}, turn 2", "unknown role ['user']")),
    "content missing": (turns({"role": "system"}), (f"{TEA}, turn 1 (system)", "`content` is missing")),
    "content is a number": (turn(content=3), (f"{TEA}, turn 2 (user)", "`content`", "valid string", "found 3")),
    "content is blank": (turn(content=" \n"), (f"{TEA}, turn 2 (user)", "`content`", "must say something")),
    "frame is null": (turn(end_frame=None), (f"{TEA}, turn 2 (user)", "`end_frame`", "integer", "found None")),
    "frame is negative": (
        turn(start_frame=-1),
        (f"{TEA}, turn 2 (user)", "`start_frame`", "greater than or equal to 0", "found -1"),
    ),
    "frame is absurd": (prospect(end_frame_idx=10**12), (TEA, "`end_frame_idx`", "less than or equal to 2000000")),
    "system frame is text": (
        turns({"role": "system", "content": "x", "start_frame": "0"}),
        (f"{TEA}, turn 1 (system)", "`start_frame`", "integer"),
    ),
    "metadata of another type": (proassist(metadata={"task_goal": 3}), (SOUP, "`metadata.task_goal`", "found 3")),
    "frames turn without end": (
        dialog({"role": "frames", "start": 2}),
        (f"{SOUP}, turn 1 (frames)", "`end` is missing"),
    ),
    "role of a ProAssist dialog": (
        dialog(frames(2, 4), update("S1", "start", 2, 4)),
        (f"{SOUP}, turn 2 (DST_UPDATE)", "unknown role", "frames"),
    ),
    "fps is null": (proassist(fps=None), (SOUP, "`fps`", "valid number", "found None")),
}


@pytest.mark.parametrize("case", SHAPE)
def test_wrong_shape(tmp_path, case):
    check_fault(tmp_path / "root", *SHAPE[case])
