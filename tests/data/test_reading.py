import json
import os

import pytest

from dst_dist.data import frames_finder
from dst_dist.data.clips import Step, Turn
from dst_dist.data.frames import write_frames
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading import count_shared_videos, read_clips
from dst_dist.data.reading_log import Report
from dst_dist.data.state import Transition
from dst_dist.errors import DataError
from tests.data.handmade import (
    PROMPT,
    make_root,
    proassist_clip,
    prospect_clip,
    public_style_clip,
    spoken,
    step,
    update,
    video,
    write_proassist,
    write_prospect,
)

S1_STARTS = Turn("DST_UPDATE", '[{"id": "S1", "transition": "start"}]', (Transition("S1", "start"),), 3, 4)


def read(root, *names, split="train", strict=True):
    return read_clips(root, list(names), split, strict)


def read_one(root, clip, strict=True):
    write_prospect(root, [clip])
    index, _, report = read(root, "kitchen", strict=strict)
    assert len(index) == 1
    return index[0], report


def with_turns(*turns, **changes):
    return prospect_clip(conversation=list(turns), **changes)


def test_prospect_clip(tmp_path):
    index, weights, report = read(make_root(tmp_path), "kitchen")
    assert (len(index), weights, report.lines()) == (1, [1], [])
    clip = index[0]
    assert clip.id == "kitchen/tea/0"
    assert (clip.dataset, clip.domain, clip.prompt, clip.goal) == ("kitchen", None, PROMPT, "Make tea")
    assert clip.video == "kitchen/frames/tea.arrow"
    assert clip.frames_path == str(tmp_path / "kitchen/frames/tea.arrow")
    assert (clip.start_frame, clip.end_frame, clip.fps, clip.has_dst) == (2, 10, 2, True)
    assert clip.steps == (Step("S1", "Boil water", 1.0, 2.0), Step("S2", "Pour water", 2.0, 3.0))
    assert clip.initial_state == {}
    assert clip.turns[0] == Turn("user", "I want tea.", (), 2, 3)
    assert clip.turns[1] == S1_STARTS
    assert [(turn.role, turn.first_frame, turn.frame) for turn in clip.turns[2:]] == [
        ("assistant", 3, 4),
        ("DST_UPDATE", 6, 7),
        ("DST_UPDATE", 6, 7),
        ("assistant", 7, 7),
    ]


def test_clip_with_all_that_is_odd_in_public_data(tmp_path):
    index, _, report = read(make_root(tmp_path), "toys")
    clip = index[0]
    assert clip.video == "toys/frames/toy-01_cam_2.arrow"
    assert clip.prompt == PROMPT, "a system turn outside the clip is kept"
    assert [turn.role for turn in clip.turns].count("DST_UPDATE") == 4
    assert [turn.frame for turn in clip.turns] == [5, 5, 5, 9, 9, 9, 11]
    assert dict(report.counts) == {frames_finder.WITHOUT_PREFIX: 1}
    assert "assembly_toy-01_cam_2/0 (toy-01_cam_2.arrow)" in report.lines()[0]


def test_proassist_dialog(tmp_path):
    index, _, report = read(make_root(tmp_path), "cooking/prepared/train.jsonl")
    clip = index[0]
    assert (clip.id, clip.prompt, clip.goal) == ("cooking/soup/0", PROMPT, "Make soup")
    assert clip.video == "cooking/frames/soup.arrow"
    assert (clip.steps, clip.initial_state, clip.has_dst) == ((), {}, False)
    assert clip.turns == (
        Turn("user", "What now?", (), 3, 3),
        Turn("assistant", "Chop.", (), 3, 3),
        Turn("assistant", "Stir.", (), 9, 9),
    )
    assert dict(report.counts) == {frames_finder.BELOW_DATASET: 1}


def test_names_weights_and_order(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(clip_idx=n) for n in range(2)])
    index, weights, _ = read(root, {"toys": 3}, "kitchen/train_training.json", {"cooking/prepared/train.jsonl": 1})
    assert [clip.dataset for clip in index] == ["toys", "kitchen", "kitchen", "cooking"]
    assert weights == [3, 1, 1, 1]


def test_the_split_names_the_file(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(video_uid="coffee")], split="val")
    index, _, _ = read(root, "kitchen", split="val")
    assert index[0].id == "kitchen/coffee/0"


def test_formats_are_told_apart_by_content(tmp_path):
    root = make_root(tmp_path)
    (root / "mixed.jsonl").write_text(json.dumps([proassist_clip(), prospect_clip()], indent=2))
    (root / "lines.json").write_text(f"\ufeff\n{json.dumps(prospect_clip())}\n\n{json.dumps(proassist_clip())}\n")
    (root / "single.json").write_text(json.dumps(proassist_clip(clip_idx=7), indent=1))
    index, _, _ = read(root, "mixed.jsonl", "lines.json", "single.json")
    assert [(clip.dataset, clip.has_dst) for clip in index] == [
        ("cooking", False),
        ("kitchen", True),
        ("kitchen", True),
        ("cooking", False),
        ("cooking", False),
    ]


def test_ids_are_taken_as_given_and_told_apart_when_made(tmp_path):
    root = make_root(tmp_path)
    write_proassist(root, [proassist_clip(), proassist_clip(), proassist_clip(id="mine"), proassist_clip()])
    index, _, report = read(root, "cooking/prepared/train.jsonl")
    assert [clip.id for clip in index] == ["cooking/soup/0", "cooking/soup/0#2", "mine", "cooking/soup/0#3"]
    assert report.counts["clips whose id was taken, numbered #2 and on"] == 2


def test_initial_state(tmp_path):
    root = make_root(tmp_path)
    user, start = spoken("user", "Go on.", 2, 3), update("S2", "start", 4, 5)
    state = {"S1": "completed", "S2": "not_started"}
    clip, report = read_one(root, with_turns({**user, "dst_state": state}, start))
    assert clip.initial_state == {"S1": "completed"}, "the first dst_state is the state before it"
    clip, report = read_one(root, with_turns(user, start, {**user, "end_frame": 6, "dst_state": state}))
    assert clip.initial_state == {"S1": "completed"}, "of S2 it tells what was after the update, and tells it wrong"
    assert report.counts["dst_state entries that contradict the transitions before them"] == 1
    clip, report = read_one(root, with_turns(user, start, initial_dst_state={"S1": "failed", "S2": "not_started"}))
    assert clip.initial_state == {"S1": "failed"}
    assert not report.counts


def test_the_initial_state_of_a_step_that_is_named_late(tmp_path):
    """A `dst_state` names only the steps seen so far: what it leaves out may be under way all the same."""
    turns = (
        spoken("user", "Hello", 2, 3, dst_state={}),
        update("S2", "complete", 3, 5, dst_state={"S2": "in_progress"}),
        update("S1", "start", 5, 6, dst_state={"S1": "not_started", "S2": "completed"}),
    )
    clip, report = read_one(make_root(tmp_path), with_turns(*turns))
    assert clip.initial_state == {"S2": "in_progress"} and not report.counts


def test_contradicting_dst_state_is_counted_and_the_machine_is_right(tmp_path):
    turns = [
        update("S1", "start", 2, 3, dst_state={}),
        spoken("user", "a", 3, 4, dst_state={"S1": "in_progress"}),
        spoken("user", "b", 3, 4, dst_state={"S1": "completed"}),
        spoken("user", "c", 3, 4, dst_state={}),
        update("S1", "complete", 5, 6, dst_state={"S1": "in_progress"}),
    ]
    clip, report = read_one(make_root(tmp_path), with_turns(*turns))
    assert report.counts["dst_state entries that contradict the transitions before them"] == 2
    assert report.examples["dst_state entries that contradict the transitions before them"] == [
        "clip kitchen/tea/0, turn 3 (user)",
        "clip kitchen/tea/0, turn 4 (user)",
    ]
    assert len(clip.turns) == 5


def test_illegal_transitions_are_counted_and_kept_for_the_text(tmp_path):
    turns = [update("S1", "complete", 2, 3), update("S1", "start", 4, 5), update("S1", "start", 6, 7)]
    clip, report = read_one(make_root(tmp_path), with_turns(*turns), strict=False)
    kind = "transitions that the step's status does not allow, state left alone"
    assert report.counts[kind] == 2
    assert report.examples[kind] == [
        "clip kitchen/tea/0, turn 1 (DST_UPDATE) (complete of S1, which is not_started)",
        "clip kitchen/tea/0, turn 3 (DST_UPDATE) (start of S1, which is in_progress)",
    ]
    assert [turn.transitions[0].transition for turn in clip.turns] == ["complete", "start", "start"]


def test_update_content_as_json_text(tmp_path):
    turn = update("S1", "start", 3, 5)
    turn["content"] = json.dumps(turn["content"])
    clip, report = read_one(make_root(tmp_path), with_turns(turn))
    assert clip.turns == (S1_STARTS,)
    assert report.counts["DST_UPDATE turns with their content as a JSON string"] == 1


def test_several_transitions_in_one_turn(tmp_path):
    turn = update("S1", "start", 3, 5)
    turn["content"] += [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}]
    clip, report = read_one(make_root(tmp_path), with_turns(turn))
    assert clip.turns[0].transitions == (
        Transition("S1", "start"),
        Transition("S1", "complete"),
        Transition("S2", "start"),
    )
    assert not report.counts


def test_leading_system_turns_are_the_prompt_and_later_ones_stay(tmp_path):
    def system(text, **frames):
        return {"role": "system", "content": text, **frames}

    turns = [
        system("One.", start_frame=0, end_frame=1),
        system("Two."),
        spoken("user", "a", 2, 4),
        system("no frames"),
        system("outside", start_frame=90, end_frame=95),
        system("before", start_frame=2, end_frame=3),
        system("fitting", start_frame=4, end_frame=6),
        spoken("user", "b", 6, 7),
        system("after the next turn", start_frame=8, end_frame=10),
        spoken("user", "c", 8, 9),
        system("last", start_frame=9, end_frame=10),
    ]
    clip, report = read_one(make_root(tmp_path), with_turns(*turns))
    assert clip.prompt == "One.\nTwo."
    assert [(turn.text, turn.first_frame, turn.frame) for turn in clip.turns] == [
        ("a", 2, 3),
        ("no frames", 3, 3),
        ("outside", 3, 3),
        ("before", 3, 3),
        ("fitting", 4, 5),
        ("b", 6, 6),
        ("after the next turn", 6, 6),
        ("c", 8, 8),
        ("last", 9, 9),
    ]
    assert dict(report.counts) == {"system turns without usable frames, put after the turn before them": 4}


def test_proassist_anchors_and_gaps(tmp_path):
    root = make_root(tmp_path)
    turns = [
        {"role": "user", "content": "Hello?"},
        {"role": "system", "content": "Be brief."},
        {"role": "frames", "start": 3, "end": 4},
        {"role": "frames", "start": 4, "end": 5},
        {"role": "assistant", "content": "Hi."},
        {"role": "frames", "start": 7, "end": 9},
        {"role": "system", "content": "Please sum up."},
        {"role": "assistant", "content": "Done."},
    ]
    write_proassist(root, [proassist_clip(conversation=turns, frames_file="cooking/frames/soup.arrow")])
    index, _, report = read(root, "cooking/prepared/train.jsonl")
    clip = index[0]
    assert clip.prompt == ""
    assert [(turn.text, turn.frame) for turn in clip.turns] == [
        ("Hello?", 2),
        ("Be brief.", 2),
        ("Hi.", 4),
        ("Please sum up.", 8),
        ("Done.", 8),
    ]
    assert dict(report.counts) == {
        "gaps between frames turns, their frames kept": 3,
        "text turns before any frame, put after the clip's first one": 2,
    }
    assert "frames [5, 7)" in report.examples["gaps between frames turns, their frames kept"][1]


@pytest.mark.parametrize(
    ("metadata", "goal", "domain"),
    [
        (None, "", None),
        ({"task_goal": "Soup", "domain": "food"}, "Soup", "food"),
        ('{"task_goal": "Soup", "domain": "food"}', "Soup", "food"),
        ("no JSON", "", None),
        ([{"domain": "food"}], "", None),
        ({"task_goal": None, "other": 3}, "", None),
    ],
)
def test_proassist_metadata(tmp_path, metadata, goal, domain):
    root = make_root(tmp_path)
    write_proassist(root, [proassist_clip(metadata=metadata)])
    clip = read(root, "cooking/prepared/train.jsonl")[0][0]
    assert (clip.goal, clip.domain) == (goal, domain)


def test_domain_from_video_labels(tmp_path):
    clip, _ = read_one(make_root(tmp_path), prospect_clip(video_labels={"domain": "kitchen work"}))
    assert clip.domain == "kitchen work"


def test_a_clip_without_steps_is_counted(tmp_path):
    clip, report = read_one(make_root(tmp_path), with_turns(spoken("user", "a", 2, 3), dst=[]))
    assert clip.steps == () and clip.has_dst
    assert report.counts["clips that declare no steps"] == 1


def test_clips_of_one_file_are_one_video_however_they_write_it(tmp_path):
    root = make_root(tmp_path)
    os.symlink(root / "kitchen/frames/tea.arrow", root / "kitchen/frames/link.arrow")
    files = [
        "kitchen/frames/tea.arrow",
        "./kitchen//frames/tea.arrow",
        "data/kitchen/frames/tea.arrow",
        "kitchen/frames/link.arrow",
        "elsewhere/x_tea.arrow",
    ]
    write_prospect(root, [prospect_clip(clip_idx=n, frames_file=file) for n, file in enumerate(files)])
    index, _, report = read(root, "kitchen")
    assert {clip.video for clip in index} == {"kitchen/frames/tea.arrow"}
    assert sum(report.counts.values()) == 2


def test_a_missing_frames_file_is_counted_and_the_clip_kept(tmp_path):
    clip, report = read_one(make_root(tmp_path), prospect_clip(frames_file="kitchen/frames/none.arrow"))
    assert clip.video == "kitchen/frames/none.arrow"
    assert report.counts[frames_finder.NOT_FOUND] == 1


def test_videos_in_two_splits_are_counted(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(clip_idx=1), prospect_clip(clip_idx=2)], split="val")
    report = Report()
    splits = {"train": read(root, "kitchen", "toys")[0], "val": read(root, "kitchen", split="val")[0]}
    count_shared_videos(splits, report)
    assert report.lines() == ["1 videos in two splits, for example: kitchen/frames/tea.arrow in train and val"]


def test_moving_the_data_keeps_the_fingerprint(tmp_path):
    fingerprints = {read(make_root(tmp_path / name), "kitchen")[0].fingerprint() for name in "ab"}
    assert len(fingerprints) == 1


def test_finder_takes_the_nearest_of_several(tmp_path):
    for place in ("a/frames/x.arrow", "b/x.arrow", "b/deep/er/y.arrow", "b/z.arrow", "b/deep/z.arrow"):
        write_frames(tmp_path / place, video(1))
    finder = FramesFinder(tmp_path)

    def found(file, dataset):
        path, correction = finder.find(file, dataset)
        return path.relative_to(tmp_path).as_posix(), correction

    assert found("a/frames/x.arrow", "b") == ("a/frames/x.arrow", None)
    assert found("data/a/frames/x.arrow", "b") == ("a/frames/x.arrow", frames_finder.WITHOUT_DATA)
    assert found("frames/x.arrow", "a") == ("a/frames/x.arrow", frames_finder.BELOW_DATASET)
    assert found("q/x.arrow", "b") == ("b/x.arrow", frames_finder.BY_NAME)
    assert found("q/y.arrow", "nowhere") == ("b/deep/er/y.arrow", frames_finder.BY_NAME)
    assert found("q/pre_x.arrow", "a") == ("a/frames/x.arrow", frames_finder.WITHOUT_PREFIX)
    assert found("q/none.arrow", "a") == ("q/none.arrow", frames_finder.NOT_FOUND)
    with pytest.raises(DataError, match="several files have this name: .*x.arrow.*; write which one"):
        finder.find("q/x.arrow", "c")
    with pytest.raises(DataError, match="several"):
        finder.find("q/z.arrow", "b")


def test_report_keeps_three_examples_of_each_kind():
    report = Report()
    for number in range(5):
        report.count("odd things", f"clip {number}")
    report.count("other things", "clip 9")
    assert report.lines() == [
        "5 odd things, for example: clip 0; clip 1; clip 2",
        "1 other things, for example: clip 9",
    ]


def test_the_handmade_public_style_clip_is_legal(tmp_path):
    clip, report = read_one(make_root(tmp_path), {**public_style_clip(), "dst": [step(1, "a"), step(2, "b")]})
    assert len(clip.steps) == 2 and len(report.counts) == 1
