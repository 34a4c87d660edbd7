"""Splitting clips, and the arrays of the parts."""

from collections import Counter

import numpy as np
import pytest

from dst_dist.data.conversation import IGNORE
from dst_dist.data.samples import Limits
from dst_dist.errors import DataError
from tests.data.dialogs import (
    ROOMY,
    all_parts,
    counts_of,
    decoded,
    make_clip,
    make_maker,
    reply,
    supervised_texts,
    system,
    update,
    user,
    whole_sample,
)

IMAGE = "<image>"


def opening(state):
    return (
        "<|im_start|>System: You watch and help.\n\nTask: Make tea\n"
        f"Steps:\n- S1: Boil water\n- S2: Pour water\nState: {state}<end_of_utterance>\n"
    )


S1_STARTS = 'DST: [{"id": "S1", "transition": "start"}]<end_of_utterance>\n'
S1_COMPLETE = 'DST: [{"id": "S1", "transition": "complete"}]<end_of_utterance>\n'


def test_the_parts_of_a_split_clip_read_as_written_by_hand():
    """At most 6 frames a part, 2 of context: cuts after frames 3 and 7 that have turns, then wherever it must be."""
    clip = make_clip(
        user(1), update(3), user(6), reply(7, "Done."), update(7, "S1 complete"), end=16, initial_state={"S2": "paused"}
    )
    maker = make_maker(limits=Limits(4096, 6), context_seconds=1.0)
    parts = all_parts(maker, clip)
    assert [part[:3] for part, _ in parts] == [(0, 0, 4), (2, 4, 8), (6, 8, 12), (10, 12, 16)]
    assert [sample.frames.tolist() for _, sample in parts] == [
        [0, 1, 2, 3],
        [2, 3, 4, 5, 6, 7],
        [6, 7, 8, 9, 10, 11],
        [10, 11, 12, 13, 14, 15],
    ]
    question = "User: What now?<end_of_utterance>\n"
    assert [decoded(maker, sample.input_ids) for _, sample in parts] == [
        opening("S2 paused") + IMAGE * 2 + question + IMAGE * 2 + S1_STARTS,
        opening("S1 in_progress, S2 paused")
        + IMAGE * 5
        + question
        + IMAGE
        + S1_COMPLETE
        + "Assistant: Done.<end_of_utterance>\n",
        opening("S1 completed, S2 paused") + IMAGE * 6,
        opening("S1 completed, S2 paused") + IMAGE * 6,
    ]
    assert [sample.decision_frames.tolist() for _, sample in parts] == [
        [0, 1, 1, 2, 3],
        [4, 5, 6, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]
    assert [sample.decisions["dst_update"].tolist() for _, sample in parts] == [
        [0, IGNORE, IGNORE, 0, 1],
        [0, 0, IGNORE, IGNORE, 1],
        [0] * 4,
        [0] * 4,
    ]
    assert [sample.decisions["speaking"].tolist() for _, sample in parts] == [
        [0, IGNORE, 0, 0, 0],
        [0, 0, IGNORE, IGNORE, 1],
        [0] * 4,
        [0] * 4,
    ]
    assert supervised_texts(maker, parts[1][1]) == [
        ' [{"id": "S1", "transition": "complete"}]<end_of_utterance>',
        " Done.<end_of_utterance>",
    ]


def test_a_clip_that_just_fits_is_not_split():
    clip = make_clip(reply(3), update(5))
    length = len(whole_sample(make_maker(), clip).input_ids)
    for limits, number in ((Limits(length, 8), 1), (Limits(length - 1, 8), 2), (Limits(length, 7), 2)):
        counts = Counter()
        assert len(make_maker(limits=limits, context_seconds=0).split(clip, counts)) == number
        assert counts["clips split because they are too long"] == number - 1


def test_the_answer_to_a_question_may_stand_in_the_next_part():
    clip = make_clip(user(3), reply(5), end=6)
    maker = make_maker(limits=Limits(4096, 4), context_seconds=0)
    (_, before), (_, after) = all_parts(maker, clip)
    assert before.frames.tolist() == [0, 1, 2, 3] and after.frames.tolist() == [4, 5]
    assert before.decisions["speaking"].tolist() == [0, 0, 0, IGNORE, IGNORE]
    assert after.decisions["speaking"].tolist() == [0, 1]


def test_a_turns_range_may_begin_in_the_part_before():
    clip = make_clip(user(3), reply(5, first=2), end=6)
    maker = make_maker(limits=Limits(4096, 4), context_seconds=1.0, positive_frames="all")
    (_, before), (_, after) = all_parts(maker, clip)
    assert before.decisions["speaking"].tolist() == [0, 0, 1, 1, IGNORE]
    assert after.frames.tolist() == [3, 4, 5]
    assert after.decision_frames.tolist() == [4, 5]
    assert after.decisions["speaking"].tolist() == [1, 1]


def test_an_illegal_transition_is_written_but_leaves_the_carried_state_alone():
    clip = make_clip(update(1, "S1 start"), update(2, "S2 complete", "S1 complete"), end=6)
    maker = make_maker(limits=Limits(4096, 3), context_seconds=0)
    (_, first), (_, second) = all_parts(maker, clip)
    assert '"S2", "transition": "complete"' in decoded(maker, first.input_ids)
    assert decoded(maker, second.input_ids) == opening("S1 completed") + IMAGE * 3


def test_event_frames_from_long_ago_are_no_context():
    clip = make_clip(reply(2, first=1), reply(11, first=10), reply(14, first=12), end=20)
    maker = make_maker(limits=Limits(4096, 4), frames="event", context_seconds=1.5)
    parts = all_parts(maker, clip)
    assert [sample.frames.tolist() for _, sample in parts] == [[1, 2, 10, 11], [11, 12, 13, 14]]
    maker = make_maker(limits=Limits(4096, 3), frames="event", context_seconds=2.0)
    parts = all_parts(maker, clip)
    # Frames 1 and 2 were shown just before frame 10, but eight frames of the video are between them.
    assert [sample.frames.tolist() for _, sample in parts] == [[1, 2], [10, 11], [11, 12, 13], [13, 14]]
    assert [sample.decision_frames.tolist() for _, sample in parts] == [[1, 2], [10, 11], [12, 13], [14]]


def test_a_clip_without_turns_has_no_event_frames_and_is_counted():
    counts = Counter()
    assert make_maker(frames="event").split(make_clip(), counts) == []
    assert sum(counts.values()) == 1
    assert len(make_maker().split(make_clip(), Counter())) == 1


@pytest.mark.parametrize("context_seconds, first", [(0, 12), (1, 10), (1.2, 10), (2, 8)])
def test_context_is_as_long_as_the_recipe_says(context_seconds, first):
    maker = make_maker(limits=Limits(4096, 12), context_seconds=context_seconds)
    _, (_, second) = all_parts(maker, make_clip(reply(11), end=13))
    assert second.frames.tolist() == list(range(first, 13))
    assert second.decision_frames.tolist() == [12]


def test_context_takes_at_most_half_of_what_is_left():
    clip = make_clip(end=12)
    maker = make_maker(limits=Limits(4096, 5), context_seconds=100)
    assert [part[:3] for part in maker.split(clip, Counter())] == [(0, 0, 5), (3, 5, 8), (6, 8, 11), (9, 11, 12)]
    header = len(maker.writer.header(clip, {}))
    maker = make_maker(limits=Limits(header + 5, 2048), context_seconds=100)
    assert [part[:3] for part in maker.split(clip, Counter())] == [(0, 0, 5), (3, 5, 8), (6, 8, 11), (9, 11, 12)]


def test_one_frame_at_a_time():
    clip = make_clip(update(1), reply(1), end=3)
    maker = make_maker(limits=Limits(4096, 1), context_seconds=100)
    assert [part[:3] for part in maker.split(clip, Counter())] == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


def test_an_opening_turn_that_leaves_no_room_is_one_fault():
    clip = make_clip(reply(2), end=500)
    header = len(make_maker().writer.header(clip, {}))
    with pytest.raises(DataError) as caught:
        make_maker(limits=Limits(header, 2048)).split(clip, Counter())
    (fault,) = caught.value.faults
    assert f"clip kitchen/tea/0: the opening turn ({header} tokens)" in fault and "data.max_seq_len" in fault
    # Room for a frame, and no more.
    assert len(make_maker(limits=Limits(header + 1, 2048)).split(make_clip(end=3), Counter())) == 3
    with pytest.raises(DataError):
        make_maker(limits=Limits(header + 1, 2048), tokens_per_frame=4).split(make_clip(end=3), Counter())


def test_an_opening_turn_may_outgrow_its_room_with_the_state():
    clip = make_clip(update(1, "S1 start", "S2 start"), end=30)
    maker = make_maker()
    short, long = (len(maker.writer.header(clip, state)) for state in ({}, {"S1": "in_progress", "S2": "in_progress"}))
    turn = len(maker.writer.turn("DST_UPDATE", clip.turns[0].text))
    limit = short + 2 + turn
    assert limit < long
    with pytest.raises(DataError, match=rf"the opening turn \({long} tokens\) leaves no room"):
        make_maker(limits=Limits(limit, 2048)).split(clip, Counter())
    for part, sample in all_parts(make_maker(limits=Limits(long + 1, 2048)), clip):
        assert len(sample.input_ids) == part.num_tokens <= long + 1


def test_every_turn_that_cannot_fit_is_named_at_once():
    long = "water " * 60
    clip = make_clip(reply(2, long), update(4), user(5, long), end=12)
    header = len(make_maker().writer.header(clip, {}))
    with pytest.raises(DataError) as caught:
        make_maker(limits=Limits(header + 40, 2048)).split(clip, Counter())
    first, second = caught.value.faults
    assert "clip kitchen/tea/0: frame 2 with its turns" in first
    assert "clip kitchen/tea/0: frame 5 with its turns" in second and "data.max_seq_len" in second


def test_missing_frames_have_no_labels_but_their_turns_are_learned():
    clip = make_clip(reply(2), user(4), reply(4))
    maker = make_maker()
    (part,) = maker.split(clip, Counter())
    seen, blind = maker.make(clip, part), maker.make(clip, part, blind_frames=(2, 4, 5))
    assert blind.decisions["speaking"].tolist() == [0, 0, IGNORE, 0, IGNORE, 1, IGNORE, 0, 0]
    assert blind.decisions["dst_update"].tolist() == [0, 0, IGNORE, 0, IGNORE, 0, IGNORE, 0, 0]
    assert np.array_equal(seen.input_ids, blind.input_ids) and np.array_equal(seen.labels, blind.labels)


def test_counts_are_of_positions_that_count():
    clip = make_clip(update(2), reply(2), user(5), end=7)
    maker = make_maker()
    sample = whole_sample(maker, clip)
    update_body, reply_body = (len(maker.writer.turn(turn.role, turn.text).body) for turn in clip.turns[:2])
    # Frames 0, 1, 3, 4, 6 and the end of the user turn are negatives.
    assert counts_of(sample) == [update_body + reply_body, update_body, 1, 6, 1, 6]


def test_split_counts_what_is_supervised_in_each_part():
    """Positives and negatives by head; the frame before the user's turn has no label."""
    clip = make_clip(update(2), reply(2), user(5), end=7)
    maker = make_maker(limits=Limits(4096, 3))
    parts = maker.split(clip, Counter())
    heads = np.array([part.counts[2:] for part in parts]).sum(0)
    assert heads.tolist() == [1, 6, 1, 6]
    first = len(maker.writer.turn("DST_UPDATE", clip.turns[0].text).body)
    assert parts[0].counts[:2] == (first + len(maker.writer.turn("assistant", clip.turns[1].text).body), first)
    assert [part.counts[:2] for part in parts[1:]] == [(0, 0)] * (len(parts) - 1)


def test_a_turn_number_for_every_turn_that_is_learned():
    clip = make_clip(system(0), update(1), reply(1), user(2), reply(3), reply(6))
    sample = whole_sample(make_maker(limits=ROOMY), clip)
    learned = sample.labels != IGNORE
    assert np.array_equal(sample.turn >= 0, learned)
    assert sorted(set(sample.turn[learned].tolist())) == [0, 1, 2, 3]
    assert np.all(np.diff(sample.turn[learned]) >= 0)
