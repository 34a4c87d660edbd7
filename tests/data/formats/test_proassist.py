"""ProAssist dialogs as they are read: anchors, gaps, metadata."""

import pytest

from dst_dist.data import frames_finder
from dst_dist.data.clips import Turn
from tests.data.clip_files import read
from tests.data.handmade import PROMPT, make_root, proassist_clip, write_proassist


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
