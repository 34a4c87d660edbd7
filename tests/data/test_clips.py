"""Clips in an index."""

import dataclasses
import pickle

import pytest

from dst_dist.data.clips import Clip, ClipIndex, Step, Turn
from dst_dist.data.state import Transition

CLIP = Clip(
    id="kitchen/tea/0",
    dataset="kitchen",
    domain=None,
    video="kitchen/frames/tea.arrow",
    frames_path="/data/kitchen/frames/tea.arrow",
    start_frame=2,
    end_frame=10,
    fps=29.97,
    prompt="Watch — and “help” ☕.",
    goal="Make tea",
    steps=(Step("S1", "Boil water", 1.5, None), Step("S2", "Pour")),
    initial_state={"S1": "in_progress"},
    turns=(
        Turn("user", "Done.\n", (), 2, 3),
        Turn("DST_UPDATE", "two", (Transition("S1", "complete"), Transition("S2", "start")), 3, 4),
    ),
    has_dst=True,
)
OTHER = dataclasses.replace(CLIP, id="other", domain="food", steps=(), initial_state={}, turns=(), has_dst=False)


def test_a_clip_comes_back_as_it_went_in():
    index = ClipIndex.from_clips(clip for clip in [CLIP, OTHER])
    assert len(index) == 2
    assert list(index) == [CLIP, OTHER]
    assert index[-1] == OTHER
    change = index[0].turns[1].transitions[0]
    assert isinstance(change, Transition) and change.transition == "complete"
    for position in (2, -3):
        with pytest.raises(IndexError, match="out of range"):
            index[position]


def test_an_index_may_be_empty():
    assert list(ClipIndex.from_clips([])) == []


def test_changing_a_clip_that_was_read_changes_nothing_in_the_index():
    index = ClipIndex.from_clips([CLIP])
    with pytest.raises(dataclasses.FrozenInstanceError):
        index[0].id = "x"
    index[0].initial_state["S2"] = "failed"
    assert index[0] == CLIP


def test_subset_takes_the_positions_in_the_order_given():
    index = ClipIndex.from_clips([CLIP, OTHER, CLIP])
    assert [clip.id for clip in index.subset([1, 0])] == ["other", "kitchen/tea/0"]
    assert len(index.subset([])) == 0


def test_fingerprint_depends_on_the_clips_and_not_on_their_place():
    def fingerprint(*clips):
        return ClipIndex.from_clips(clips).fingerprint()

    assert len(fingerprint(CLIP)) == 64
    assert fingerprint(CLIP, OTHER) == fingerprint(CLIP, OTHER)
    assert fingerprint(CLIP) == fingerprint(dataclasses.replace(CLIP, frames_path="/elsewhere/tea.arrow"))
    different = [
        fingerprint(CLIP),
        fingerprint(OTHER),
        fingerprint(CLIP, OTHER),
        fingerprint(OTHER, CLIP),
        fingerprint(dataclasses.replace(CLIP, fps=30.0)),
        fingerprint(dataclasses.replace(CLIP, turns=CLIP.turns[:1])),
        fingerprint(dataclasses.replace(CLIP, initial_state={})),
    ]
    assert len(set(different)) == len(different)
    index = ClipIndex.from_clips([CLIP, OTHER])
    assert index.subset([1]).fingerprint() == fingerprint(OTHER)


def test_an_index_can_be_sent_to_another_process():
    index = pickle.loads(pickle.dumps(ClipIndex.from_clips([CLIP, OTHER])))
    assert list(index) == [CLIP, OTHER]
