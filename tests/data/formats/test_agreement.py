"""Goals, lengths, frames and times that a clip states twice."""

import pytest

from dst_dist.data.formats.agreement import OTHER_FRAMES, OTHER_GOAL, OTHER_TIME, TOO_LONG, TOO_SHORT
from dst_dist.errors import DataError
from tests.data.clip_files import read, read_one
from tests.data.handmade import PROMPT, make_root, proassist_clip, prospect_clip, spoken, write_proassist

DIALOGS = "cooking/prepared/train.jsonl"
SYSTEM = {"role": "system", "content": PROMPT}


def prospect(tmp_path, strict=False, **changes):
    return read_one(make_root(tmp_path), prospect_clip(**changes), strict)


def proassist(tmp_path, strict=False, **changes):
    root = make_root(tmp_path)
    write_proassist(root, [proassist_clip(frames_file="cooking/frames/soup.arrow", **changes)])
    index, _, report = read(root, DIALOGS, strict=strict)
    return index[0], report


GOALS = {
    # keys of the clip, the goal believed, whether it is counted
    "one goal": ({"inferred_goal": "Make tea"}, "Make tea", False),
    "the same words": ({"inferred_goal": "Make tea", "metadata": {"task_goal": "make  tea."}}, "Make tea", False),
    "one is empty": ({"inferred_goal": " ", "metadata": {"task_goal": "Make tea"}}, "Make tea", False),
    "the second is repeated": ({"inferred_goal": "Fry", "metadata": {"task_goal": "Make tea"},
                                "inferred_knowledge": "Make tea\n1. Boil."}, "Make tea", True),
    "the first is repeated": ({"inferred_goal": "Pour it", "metadata": '{"task_goal": "Fry eggs"}'}, "Pour it", True),
    "nothing repeats either": ({"inferred_goal": "Fry eggs", "video_labels": {"task_goal": "Swim"},
                                "inferred_knowledge": ["of another type"]}, "Fry eggs", True),
}  # fmt: skip


@pytest.mark.parametrize("case", GOALS)
def test_of_two_goals_the_one_that_the_texts_repeat_is_believed(tmp_path, case):
    changes, goal, is_counted = GOALS[case]
    clip, report = prospect(tmp_path, **changes)
    assert (clip.goal, report.counts[OTHER_GOAL]) == (goal, is_counted)
    if is_counted:
        with pytest.raises(DataError, match="data.strict refuses clips that name two tasks"):
            prospect(tmp_path, strict=True, **changes)


def test_a_dialog_names_its_goal_in_two_places(tmp_path):
    changes = {"metadata": {"task_goal": "Fry"}, "video_labels": {"task_goal": "Chop"}}
    clip, report = proassist(tmp_path, **changes)
    assert clip.goal == "Chop" and report.counts[OTHER_GOAL] == 1, "a reply repeats it"


LENGTHS = {
    "enough": ({"seq_len": 8}, None),
    "unknown": ({"seq_len": 0}, None),
    "of another type": ({"seq_len": "many", "num_tokens_per_img": None, "max_seq_len": [1]}, None),
    "fewer than frames": ({"seq_len": 7}, TOO_SHORT),
    "fewer than tokens of frames": ({"seq_len": 79, "num_tokens_per_img": 10}, TOO_SHORT),
    "longer than its limit": ({"seq_len": 60, "max_seq_len": 50}, TOO_LONG),
}


@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("read_clip", [prospect, proassist])
def test_lengths_are_compared_with_frames_and_limit(tmp_path, case, read_clip):
    changes, kind = LENGTHS[case]
    clip, report = read_clip(tmp_path, **changes)
    assert dict(report.counts) == ({kind: 1} if kind else {})
    assert (clip.start_frame, clip.end_frame) == (2, 10)
    if kind:
        with pytest.raises(DataError, match="data.strict refuses clips whose seq_len"):
            read_clip(tmp_path, strict=True, **changes)


def turns_at(*places):
    """Turns whose decision frame and whose time in frames are given; None for a turn without a time."""
    turns = [spoken("user", str(number), frame, frame + 1) for number, (frame, _) in enumerate(places)]
    times = [{"time": at / 2} if at is not None else {"time": "unknown"} for _, at in places]
    return [SYSTEM, *({**turn, **time} for turn, time in zip(turns, times, strict=True))]


CLOCKS = {
    # (frame, time in frames) of each turn in a clip of frames [2, 40) -> decision frames, counted
    "alike": ([(3, 3), (9, 9), (20, 20)], [3, 9, 20], {}),
    "a second apart": ([(3, 5), (9, 7), (20, 20)], [3, 9, 20], {}),
    "no times": ([(3, None), (9, None)], [3, 9], {}),
    "of the clip": ([(3, 1), (9, 7), (20, 18)], [3, 9, 20], {}),
    "a wrong time": ([(3, 3), (9, 39), (20, 20)], [3, 9, 20], {OTHER_TIME: 1}),
    "a wrong time that would fit": ([(3, 3), (9, 15), (20, 20)], [3, 9, 20], {OTHER_TIME: 1}),
    "frames behind the next turn's": ([(3, 3), (30, 9), (20, 20)], [3, 9, 20], {OTHER_FRAMES: 1}),
    "frames before the last turn's": ([(3, 3), (9, 9), (5, 20)], [3, 9, 20], {OTHER_FRAMES: 1}),
    "frames outside the clip": ([(3, 3), (9, 9), (90, 20)], [3, 9, 20], {OTHER_FRAMES: 1}),
    "frames before the clip": ([(0, 8), (9, 9), (20, 20)], [8, 9, 20], {OTHER_FRAMES: 1}),
    "two of them": ([(3, 3), (60, 9), (70, 12), (20, 20)], [3, 9, 12, 20], {OTHER_FRAMES: 2}),
    "another clock": ([(3, 300), (9, 900), (20, 2000)], [3, 9, 20], {OTHER_TIME: 3}),
}


@pytest.mark.parametrize("case", CLOCKS)
def test_frames_are_believed_if_they_fit_between_the_others_else_times(tmp_path, case):
    places, frames, counts = CLOCKS[case]
    changes = {"conversation": turns_at(*places), "start_frame_idx": 2, "end_frame_idx": 40}
    clip, report = prospect(tmp_path, **changes)
    assert [turn.frame for turn in clip.turns] == frames
    assert dict(report.counts) == counts
    if counts:
        with pytest.raises(DataError, match="data.strict refuses turns whose (time is not|frames do not)"):
            prospect(tmp_path, strict=True, **changes)


@pytest.mark.parametrize(
    "places",
    [[(3, 3), (30, 40), (20, 20)], [(3, 3), (90, 80)], [(30, None), (20, 20)]],
    ids=["order", "outside", "no time"],
)
def test_a_turn_that_neither_frames_nor_time_can_place_is_a_fault(tmp_path, places):
    with pytest.raises(DataError, match="sort turns by time|must be a part"):
        prospect(tmp_path, conversation=turns_at(*places), start_frame_idx=2, end_frame_idx=40)


def test_times_of_a_dialog_are_compared_with_the_frames_before(tmp_path):
    turns = proassist_clip()["conversation"]
    for offset, number in ((0, 0), (-1.0, 0), (50.0, 3)):
        moved = [{**turn, "time": turn["time"] + offset} if "time" in turn else turn for turn in turns]
        clip, report = proassist(tmp_path, conversation=moved)
        assert report.counts[OTHER_TIME] == number and [turn.frame for turn in clip.turns] == [3, 3, 9]
