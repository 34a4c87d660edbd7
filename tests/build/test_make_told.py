"""The demo's videos told as raw dialogs: true clips are sound, and built ones near them."""

import json

import pytest

from dst_dist.data.reading import read_clips
from dst_dist.demo.make import Sizes, draw_frames
from tests.benchmarks.built_labels import LABELS, make_labels, plan

LEAST = 0.85


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The data root, the videos, and how alike true and built clips are."""
    root, videos = tmp_path_factory.mktemp("told"), plan(Sizes(train=4, val=1, test=1))
    for video in videos:
        draw_frames(root, True, video)
    return root, videos, make_labels(root, videos)


def test_no_reset_but_of_a_completed_step_is_told(told):
    for video in told[1]:
        state: dict[int, str] = {}
        for moment in video.moments:
            for step, transition in moment.transitions:
                assert transition != "reset" or state[step] == "completed"
            state = dict(enumerate(moment.statuses))


def test_built_labels_are_near_the_true_ones(told):
    assert told[2]["transition F1"] >= LEAST


@pytest.mark.parametrize("labels", LABELS)
def test_clips_are_read_strictly(told, labels):
    names = [f"{folder}/train_{labels}.json" for folder in ("workshop", "kitchen", "garden")]
    index, _, report = read_clips(told[0], names, "train", strict=True)
    assert len(index) == 3 * 4 * 3
    assert report.lines() == []


def test_the_true_clips_hold_the_videos_own_changes(told):
    root, videos, _ = told
    for video in (video for video in videos if video.split == "test"):
        clips = json.loads((root / f"{video.folder}/test_true.json").read_text())
        for turn in (turn for clip in clips for turn in clip["conversation"] if turn["role"] == "DST_UPDATE"):
            changes = sorted((change["id"], change["transition"]) for change in turn["content"])
            true = video.moments[turn["end_frame"] - 1].transitions
            assert changes == [(f"S{step + 1}", transition) for step, transition in true]
