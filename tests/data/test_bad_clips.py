"""Bad input of every kind ends in one DataError that says which file, clip and turn, what is wrong, and what to do."""

import json
import os
import shutil

import pyarrow as pa
import pytest

from dst_dist.data.frames import write_frames
from dst_dist.data.frames_check import check_frames
from dst_dist.data.reading import read_clips
from dst_dist.errors import DataError
from tests.data.handmade import (
    jpeg,
    make_root,
    proassist_clip,
    prospect_clip,
    spoken,
    step,
    update,
    video,
    write_base64,
    write_column,
    write_proassist,
    write_prospect,
)

FILE = "kitchen/train_training.json"
LINES = "cooking/prepared/train.jsonl"
TEA = f"{FILE}: clip kitchen/tea/0"
SOUP = f"{LINES}: clip cooking/soup/0"
FRAMES = "kitchen/frames/tea.arrow"


def prospect(**changes):
    """Writes a kitchen clip with these keys changed."""
    return lambda root: write_prospect(root, [prospect_clip(**changes)])


def without(key, make=prospect_clip):
    def write(root):
        clip = make()
        del clip[key]
        write_prospect(root, [clip])

    return write


def turns(*conversation, **changes):
    return prospect(conversation=list(conversation), **changes)


def turn(**changes):
    """A clip whose one turn, the second of the list, is a user turn with these keys changed."""
    return turns({"role": "system", "content": "x"}, {**spoken("user", "hi", 2, 4), **changes})


def change(content, **changes):
    """A clip whose one turn is an update with this content."""
    return turns({**update("S1", "start", 2, 4), "content": content}, **changes)


def proassist(**changes):
    return lambda root: write_proassist(root, [proassist_clip(**changes)])


def dialog(*conversation):
    return proassist(conversation=list(conversation))


def frames(start, end):
    return {"role": "frames", "start": start, "end": end}


def text(file, content):
    """Writes bytes to a file below the root."""
    return lambda root: (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def arrow(write, *content, **how):
    return lambda root: write(root / FRAMES, *content, **how)


def cut(root):
    path = root / FRAMES
    path.write_bytes(path.read_bytes()[:-600])


def link_out(file):
    def write(root):
        outside = root.parent / "outside"
        outside.mkdir()
        target = outside / os.path.basename(file)
        shutil.move(root / file, target)
        (root / file).symlink_to(target)

    return write


def link_out_folder(root):
    shutil.move(root / "kitchen/frames", root.parent / "outside")
    (root / "kitchen/frames").symlink_to(root.parent / "outside")


def outside_of_the_root(root):
    write_frames(root.parent / "x/v.arrow", video(12))
    prospect(dataset="..", frames_file="x/v.arrow")(root)


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
    "too deep": (text(FILE, "[" * 200_000), (FILE, "not valid JSON", "nested too deeply")),
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

MEANING = {
    "fps is zero": (prospect(fps=0), (TEA, "`fps`", "greater than 0", "found 0")),
    "fps is negative": (prospect(fps=-2), (TEA, "`fps`", "greater than 0", "found -2")),
    "fps is infinite": (prospect(fps=float("inf")), (TEA, "`fps`", "finite", "found inf")),
    "end is start": (prospect(end_frame_idx=2), (TEA, "end_frame_idx 2 must be above start_frame_idx 2")),
    "end before start": (proassist(end_frame_idx=1), (SOUP, "end_frame_idx 1 must be above start_frame_idx 2")),
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
    "step is no object": (prospect(dst=["S1", "S2"]), (TEA, "dst[1] must be an object", "found 'S2'")),
    "step without id": (prospect(dst=[{"name": "x"}]), (TEA, "`dst[0].id` is missing")),
    "step without name": (prospect(dst=[{"id": "S1", "name": " "}]), (TEA, "`dst[0].name`", "must say something")),
    "step time is text": (prospect(dst=[{**step(1, "x"), "end_ts": "1:20"}]), (TEA, "`dst[0].end_ts`", "'1:20'")),
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
        (f"{FILE}: clip one", "stands twice", "give every clip its own"),
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

PATHS = {
    "frames_file goes up": (
        prospect(frames_file="../tea.arrow"),
        (TEA, "frames_file '../tea.arrow'", "leads out of the data root", "below it"),
    ),
    "frames_file goes up inside": (prospect(frames_file="kitchen/../x.arrow"), (TEA, "leads out", "without ..")),
    "frames_file is absolute": (prospect(frames_file="/etc/passwd"), (TEA, "'/etc/passwd'", "leads out")),
    "frames_file is a link out": (
        link_out(FRAMES),
        (TEA, "frames_file", "is a link that leads out", "put the file below"),
    ),
    "frames folder is a link out": (link_out_folder, (TEA, "frames_file", "is a link that leads out", "outside")),
    "frames_file is no path": (prospect(frames_file="a\0b.arrow"), (TEA, "frames_file", "is not a path")),
    "frames_file is the root": (prospect(frames_file="."), (TEA, "frames_file", "is not a path")),
    "dataset goes up": (outside_of_the_root, (f"{FILE}: clip ../tea/0", "frames_file 'x/v.arrow'", "leads out")),
    "data file is a link out": (link_out(FILE), (f"data.train: kitchen: {FILE}", "is a link that leads out")),
    "no such frames file": (
        prospect(frames_file="kitchen/frames/none.arrow"),
        ("clip kitchen/tea/0", "8 of 8 frames in kitchen/frames/none.arrow", "frame 2: no such file"),
    ),
}

FRAME_FILES = {
    "fewer rows than frames": (
        arrow(write_base64, video(9)),
        ("clip kitchen/tea/0", f"1 of 8 frames in {FRAMES}", "frame 9: the file has 9 rows"),
    ),
    "no rows": (arrow(write_frames, []), ("clip kitchen/tea/0", "8 of 8 frames", "frame 2: the file has 0 rows")),
    "arrow cut off": (cut, ("clip kitchen/tea/0", "8 of 8 frames", "cannot be read as Arrow", "copy it again")),
    "empty arrow": (text(FRAMES, ""), ("clip kitchen/tea/0", "8 of 8 frames", "cannot be read as Arrow")),
    "no arrow": (text(FRAMES, "x" * 99), ("clip kitchen/tea/0", "8 of 8 frames", "cannot be read as Arrow")),
    "no column frame": (
        arrow(write_column, "image", [pa.array(video(12))]),
        ("clip kitchen/tea/0", "8 of 8 frames", "no column `frame`, but image"),
    ),
    "column of numbers": (
        arrow(write_column, "frame", [pa.array(range(12))]),
        ("clip kitchen/tea/0", "base64 strings or JPEG bytes, not int64"),
    ),
    "row is null": (
        arrow(write_base64, [*video(4), None, *video(7)]),
        ("clip kitchen/tea/0", "1 of 8 frames", "frame 4: the row is null"),
    ),
    "row is no JPEG": (
        arrow(write_frames, [*video(4), b"GIF89a", *video(7)]),
        ("clip kitchen/tea/0", "1 of 8 frames", "frame 4: not a JPEG image"),
    ),
    "row is no base64": (
        arrow(write_column, "frame", [pa.array(["*" * 40] * 12)]),
        ("clip kitchen/tea/0", "8 of 8 frames", "frame 2"),
    ),
    "row is empty": (
        arrow(write_frames, [*video(9), b"", *video(2)]),
        ("clip kitchen/tea/0", "1 of 8 frames", "frame 9: not a JPEG image"),
    ),
    "image too large": (
        arrow(write_frames, [*video(9), jpeg(0, (8001, 8000)), *video(2)]),
        ("clip kitchen/tea/0", "frame 9: 8001 x 8000 pixels, more than the 64000000 allowed"),
    ),
}

CASES = {**SHAPE, **MEANING, **PATHS, **FRAME_FILES}


def fault_of(root, names=("kitchen", LINES), split="train"):
    """The DataError of reading these names strictly and then looking at the frames."""
    with pytest.raises(DataError) as caught:
        index, _, _ = read_clips(root, list(names), split, strict=True)
        faults = check_frames(index)
        raise DataError(list(faults.clips.values())) if faults.clips else AssertionError("no fault was found")
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_bad_data(tmp_path, case):
    spoil, words = CASES[case]
    root = make_root(tmp_path / "root")
    assert not check_frames(read_clips(root, ["kitchen", LINES], "train", strict=True)[0]).clips
    spoil(root)
    error = fault_of(root)
    assert type(error) is DataError
    assert len(error.faults) <= 2
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ("data.train names nothing", "name a dataset")),
        (["garage"], ("data.train: garage: no such file", "garage/train_training.json", "there is no folder")),
        (["cooking"], ("data.train: cooking: no such file", "its folder has no .json or .jsonl")),
        (["kitchen/other.json"], ("no such file", "its folder has train_training.json")),
        (["kitchen", "kitchen"], ("data.train: kitchen: named twice", "for a weight")),
        ([{"kitchen": 0}], ("data.train: kitchen: weight 0", "1 or more")),
        ([{"kitchen": -2}], ("weight -2", "1 or more")),
        ([{"kitchen": 1.5}], ("weight 1.5", "whole number")),
        ([{"kitchen": True}], ("weight True", "whole number")),
        (["../kitchen"], ("data.train: ../kitchen", "leads out of the data root")),
        (["/etc/hosts.json"], ("/etc/hosts.json leads out of the data root",)),
        ([".json"], ("no such file",)),
        ([{"kitchen": 0}, "garage"], ("2 faults", "weight 0", "garage")),
    ],
)
def test_bad_names(tmp_path, names, words):
    error = fault_of(make_root(tmp_path), names)
    for word in words:
        assert word in str(error)


def test_no_root(tmp_path):
    assert f"data.root {tmp_path / 'none'}: no such folder" in str(fault_of(tmp_path / "none"))


def test_illegal_transitions_are_faults_in_strict_alone(tmp_path):
    root = make_root(tmp_path)
    change([{"id": "S1", "transition": "complete"}])(root)
    index, _, report = read_clips(root, ["kitchen"], "train", strict=False)
    assert len(index) == 1 and sum(report.counts.values()) == 1
