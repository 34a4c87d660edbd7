"""Turns in the order of training, and the labels of decision positions."""

import pickle
import re
from collections import Counter

import pytest

from dst_dist.data.conversation import IGNORE, arrange, frame_list
from dst_dist.data.state import Transition
from tests.data.dialogs import (
    counts_of,
    demo_tokenizer,
    make_clip,
    make_maker,
    reply,
    supervised_texts,
    system,
    update,
    user,
    whole_sample,
)

NONE = (IGNORE, IGNORE)
DECISIONS = {
    # Turns of a clip with frames 0 to 5, and the labels (dst_update, speaking) of its decision positions: "f2" is frame
    # 2, "u2" the end of a user turn there, "v2" that of a second one. A frame that is not named is a negative for both.
    "nothing": ([], {}),
    "an update": ([update(2)], {"f2": (1, 0)}),
    "a reply": ([reply(2)], {"f2": (0, 1)}),
    "an update and a reply": ([update(2), reply(2)], {"f2": (1, 1)}),
    "a reply and then an update": ([reply(2), update(2)], {"f2": (1, 1)}),
    "both at the first frame": ([update(0), reply(0)], {"f0": (1, 1)}),
    "both at the last frame": ([update(5), reply(5)], {"f5": (1, 1)}),
    "a question without answer": ([user(2)], {"f2": NONE, "u2": (0, 0)}),
    "a question at the end": ([user(5)], {"f5": NONE, "u5": (0, 0)}),
    "a reply at once": ([user(2), reply(2)], {"f2": NONE, "u2": (0, 1)}),
    "an update at once": ([user(2), update(2)], {"f2": NONE, "u2": (1, 0)}),
    "both at once": ([user(2), update(2), reply(2)], {"f2": NONE, "u2": (1, 1)}),
    "an update, a question, a reply": ([update(2), user(2), reply(2)], {"f2": (1, IGNORE), "u2": (0, 1)}),
    "a reply, then a question": ([reply(2), user(2)], {"f2": (IGNORE, 1), "u2": (0, 0)}),
    "an update before and after a question": ([update(2), user(2), update(2)], {"f2": (1, IGNORE), "u2": (1, 0)}),
    "a reply a frame later": ([user(2), reply(3)], {"f2": NONE, "u2": (0, IGNORE), "f3": (0, 1)}),
    "a reply two frames later": ([user(2), reply(4)], {"f2": NONE, "u2": (0, IGNORE), "f4": (0, 1)}),
    "a reply three frames later": ([user(2), reply(5)], {"f2": NONE, "u2": (0, 0), "f5": (0, 1)}),
    "an update two frames later": ([user(2), update(4)], {"f2": NONE, "u2": (IGNORE, 0), "f4": (1, 0)}),
    "each head has its own window": (
        [user(2), update(3), reply(5)],
        {"f2": NONE, "u2": (IGNORE, 0), "f3": (1, 0), "f5": (0, 1)},
    ),
    "an update at once, a reply later": ([user(2), update(2), reply(4)], {"f2": NONE, "u2": (1, IGNORE), "f4": (0, 1)}),
    "a reply at once stays a positive": ([user(2), reply(2), reply(4)], {"f2": NONE, "u2": (0, 1), "f4": (0, 1)}),
    "a reply before the question does not answer it": ([reply(1), user(2)], {"f1": (0, 1), "f2": NONE, "u2": (0, 0)}),
    "two questions, one reply": ([user(2), user(2), reply(2)], {"f2": NONE, "u2": (0, IGNORE), "v2": (0, 1)}),
    "two questions, no reply": ([user(2), user(2)], {"f2": NONE, "u2": (0, 0), "v2": (0, 0)}),
    "two questions, a late reply": (
        [user(2), user(2), reply(4)],
        {"f2": NONE, "u2": (0, IGNORE), "v2": (0, IGNORE), "f4": (0, 1)},
    ),
    "a reply between two questions": ([user(2), reply(2), user(2)], {"f2": NONE, "u2": (0, 1), "v2": (0, 0)}),
    "the reply to the next question comes soon": (
        [user(2), user(3), reply(3)],
        {"f2": NONE, "u2": (0, IGNORE), "f3": NONE, "u3": (0, 1)},
    ),
    "a system turn": ([system(2)], {"f2": NONE}),
    "an update, then a system turn": ([update(2), system(2)], {"f2": (1, IGNORE)}),
    "a system turn, then a reply": ([system(2), reply(2)], {"f2": NONE}),
    "a system turn, then an update and a reply": ([system(2), update(2), reply(2)], {"f2": NONE}),
    "an update, a system turn, a reply": ([update(2), system(2), reply(2)], {"f2": (1, IGNORE)}),
    "a reply before and behind a system turn": ([reply(2), system(2), reply(2)], {"f2": (IGNORE, 1)}),
    "a question and a system turn": ([user(2), system(2)], {"f2": NONE, "u2": (0, 0)}),
    "a reply behind a question and a system turn": ([user(2), system(2), reply(2)], {"f2": NONE, "u2": (0, IGNORE)}),
    "a reply to a question behind a system turn": ([system(2), user(2), reply(2)], {"f2": NONE, "u2": (0, 1)}),
    "a reply behind a system turn behind another question": (
        [user(2), user(2), system(2), reply(2)],
        {"f2": NONE, "u2": (0, IGNORE), "v2": (0, IGNORE)},
    ),
    "a system turn and a question": ([system(2), user(2), update(2)], {"f2": NONE, "u2": (1, 0)}),
    "ranges do not matter": ([update(3, first=1), reply(4, first=0)], {"f3": (1, 0), "f4": (0, 1)}),
}


def decisions(clip, frames="continuous", positive_frames="last"):
    labels = {}
    for group in arrange(clip, frames, positive_frames):
        labels[f"f{group.frame}"] = (group.decision["dst_update"], group.decision["speaking"])
        for name, decision in zip("uv", group.user_decisions, strict=False):
            labels[f"{name}{group.frame}"] = (decision["dst_update"], decision["speaking"])
    return labels


@pytest.mark.parametrize("case", DECISIONS)
def test_decisions(case):
    turns, expected = DECISIONS[case]
    negatives = {f"f{frame}": (0, 0) for frame in range(6)}
    assert decisions(make_clip(*turns, end=6)) == negatives | expected


@pytest.mark.parametrize("case", DECISIONS)
def test_the_arrays_of_a_sample_say_the_same(case):
    turns, _ = DECISIONS[case]
    clip = make_clip(*turns, end=6)
    sample = whole_sample(make_maker(tokens_per_frame=4), clip)
    assert list(
        zip(sample.decisions["dst_update"].tolist(), sample.decisions["speaking"].tolist(), strict=True)
    ) == list(decisions(clip).values())
    frame_positions = sample.decision_positions[sample.decision_is_frame]
    assert frame_positions.tolist() == [at for at in range(len(sample.input_ids)) if is_end_of_frame(sample, at)]


def is_end_of_frame(sample, position):
    image = sample.input_ids[position] == demo_tokenizer().convert_tokens_to_ids("<image>")
    return image and (sample.input_ids[: position + 1] == sample.input_ids[position]).sum() % 4 == 0


def test_every_turn_that_is_learned_has_a_positive_before_it():
    """But for a turn behind a system turn of its frame: no decision is read there, in streaming neither."""
    for turns, _ in DECISIONS.values():
        roles = " ".join(turn.role for turn in turns)
        if re.search("system (DST_UPDATE|assistant)", roles):
            continue
        sample = whole_sample(make_maker(), make_clip(*turns, end=6))
        lm, dst_gen, updates, _, replies, _ = counts_of(sample)
        assert updates == sum(turn.role == "DST_UPDATE" for turn in turns)
        assert replies == sum(turn.role == "assistant" for turn in turns)
        assert (lm > 0) == (updates + replies > 0) and (dst_gen > 0) == (updates > 0)


def arranged(*turns, **options):
    counts = Counter()
    groups = arrange(make_clip(*turns, end=6), options.get("frames", "continuous"), "last", counts)
    return [(turn.role, turn.text, turn.transitions) for group in groups for turn in group.turns], dict(counts)


JOINED_UPDATES = "DST_UPDATE turns joined with another of their frame"
JOINED_REPLIES = "replies joined with another of their frame"
REORDERED = "outcomes reordered: the update before the reply"


def test_updates_at_one_frame_become_one_and_keep_their_order():
    turns, counts = arranged(update(2, "S2 start"), update(2, "S1 start"), update(2, "S1 complete"))
    assert [turn[2] for turn in turns] == [
        (Transition("S2", "start"), Transition("S1", "start"), Transition("S1", "complete"))
    ]
    assert counts == {JOINED_UPDATES: 2}
    maker = make_maker()
    sample = whole_sample(maker, make_clip(update(2, "S2 start"), update(2, "S1 start")))
    assert supervised_texts(maker, sample) == [
        ' [{"id": "S2", "transition": "start"}, {"id": "S1", "transition": "start"}]<end_of_utterance>'
    ]


def test_replies_at_one_frame_become_one():
    turns, counts = arranged(reply(2, "One."), reply(2, "Two."), reply(3, "Three."))
    assert [turn[:2] for turn in turns] == [("assistant", "One. Two."), ("assistant", "Three.")]
    assert counts == {JOINED_REPLIES: 1}


def test_the_update_is_put_before_the_reply():
    turns, counts = arranged(reply(2, "A."), update(2, "S1 start"), reply(2, "B."), update(2, "S2 start"))
    assert [turn[0] for turn in turns] == ["DST_UPDATE", "assistant"]
    assert turns[0][2] == (Transition("S1", "start"), Transition("S2", "start"))
    assert turns[1][1] == "A. B."
    assert counts == {REORDERED: 1, JOINED_UPDATES: 1, JOINED_REPLIES: 1}


@pytest.mark.parametrize("between", [user, system])
def test_nothing_moves_past_a_user_or_system_turn(between):
    turns, counts = arranged(reply(2, "A."), between(2, "B."), update(2), reply(2, "C."), update(3))
    assert [turn[0] for turn in turns] == ["assistant", between(2).role, "DST_UPDATE", "assistant", "DST_UPDATE"]
    assert counts == {}


def test_arranging_changes_no_clip(public_clip):
    before = pickle.dumps(public_clip)
    assert decisions(public_clip, positive_frames="all") == decisions(public_clip, positive_frames="all")
    assert pickle.dumps(public_clip) == before


def test_positive_frames_all_takes_the_whole_range_of_every_turn():
    clip = make_clip(
        reply(1, first=0), user(2), update(4, first=2), update(4, first=3), reply(4, first=3), reply(4, first=4), end=7
    )
    assert decisions(clip, positive_frames="all") == {
        "f0": (0, 1),
        "f1": (0, 1),
        "f2": (1, IGNORE),
        "u2": (IGNORE, IGNORE),
        "f3": (1, 1),
        "f4": (1, 1),
        "f5": (0, 0),
        "f6": (0, 0),
    }


def test_positive_frames_all_asks_nothing_in_the_range_of_a_turn_behind_a_system_turn():
    clip = make_clip(reply(2, first=1), reply(4, first=2), system(4), reply(4, first=2), end=6)
    assert [decision[1] for decision in decisions(clip, positive_frames="all").values()] == [0, 1, 1, 1, 1, 0]
    clip = make_clip(reply(2, first=1), system(4), reply(4, first=2), end=6)
    labels = [decision[1] for decision in decisions(clip, positive_frames="all").values()]
    assert labels == [0, 1, 1, IGNORE, IGNORE, 0]
    clip = make_clip(system(4), user(4), reply(4, first=3), end=6)
    assert decisions(clip, positive_frames="all")["f3"] == (0, 1)


def test_positive_frames_all_without_steps_leaves_the_dst_head_alone():
    clip = make_clip(reply(4, first=2), end=6, steps=())
    assert set(decisions(clip, positive_frames="all").values()) == {(IGNORE, 0), (IGNORE, 1)}


def test_event_frames_are_those_of_the_turns_ranges_once_each():
    clip = make_clip(reply(4, first=2), user(4, first=4), update(9, first=8), reply(9, first=7), start=1, end=20)
    assert frame_list(clip, "event") == [2, 3, 4, 7, 8, 9]
    assert decisions(clip, frames="event") == {
        "f2": (0, 0),
        "f3": (0, 0),
        "f4": (IGNORE, 1),
        "u4": (0, 0),
        "f7": (0, 0),
        "f8": (0, 0),
        "f9": (1, 1),
    }
    sample = whole_sample(make_maker(frames="event"), clip)
    assert sample.frames.tolist() == sample.decision_frames[sample.decision_is_frame].tolist() == [2, 3, 4, 7, 8, 9]


def test_the_answer_window_counts_frames_of_the_video_also_where_frames_are_left_out():
    assert decisions(make_clip(user(2), reply(4)), frames="event") == {"f2": NONE, "u2": (0, IGNORE), "f4": (0, 1)}
    assert decisions(make_clip(user(2), reply(5)), frames="event")["u2"] == (0, 0)


def test_continuous_shows_every_frame_of_the_clip():
    assert frame_list(make_clip(reply(4), start=3, end=7), "continuous") == [3, 4, 5, 6]
