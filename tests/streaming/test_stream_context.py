"""A full context: what the next one keeps, and that the limits hold."""

import pytest
import torch

from dst_dist.data.samples import Limits
from dst_dist.errors import DataError
from dst_dist.streaming.stream import Streamer
from tests.streaming.streams import NEVER, Recording, limits_with, maker_like, pixels


@pytest.fixture(scope="module")
def clip(world):
    return world[0].clips.index[0]


def fresh_feed(streamer):
    """Return the only feed after the first that began a new context."""
    (feed,) = [feed for feed in streamer.feeds[1:] if feed.is_fresh]
    return feed


@pytest.mark.parametrize("on_full_context", ["carry_state", "drop_middle", "drop_all"])
def test_a_new_context_keeps_what_the_setting_says(world, clip, on_full_context):
    """Six frames fill it; the user spoke after frame 4 (counted from 0). With the seventh frame comes a new context.

    carry_state: the current state and 2 frames; 10 s would be 20, but it is at most half of the room for frames.
    drop_middle: the initial state, the newer half with its turns. drop_all: only the opening turn.
    """
    data, model = world
    frames, writer = pixels(clip), data.maker.writer
    maker = maker_like(data.maker, Limits(data.maker.limits.tokens, 6))
    streamer = Recording(model, clip, maker, NEVER, on_full_context)
    for number in range(6):
        streamer.push_frame(frames[number])
        if number == 4:
            streamer.push_user("How far are we?")
    streamer.state = {"S1": "completed"}
    streamer.push_frame(frames[6])
    said = writer.turn("user", "How far are we?")
    said = [*said.header, *said.body, *said.end]
    state, kept, rest = {
        "carry_state": ({"S1": "completed"}, [4, 5, 6], [writer.image_id] * 3),
        "drop_middle": (clip.initial_state, [3, 4, 5, 6], [writer.image_id] * 2 + said + [writer.image_id] * 2),
        "drop_all": (clip.initial_state, [6], [writer.image_id]),
    }[on_full_context]
    feed = fresh_feed(streamer)
    assert feed.ids == [*writer.header(clip, state), *rest]
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(feed.frames), model.encode_frames(frames[kept]), atol=1e-5, rtol=1e-5)
    assert streamer.counts == {f"contexts that were full: {on_full_context}": 1}


def test_drop_middle_keeps_the_newer_half_as_far_as_it_fits(world, clip):
    """Room for 48 tokens, some of it reserved for turns to write; user turns follow frames 1 and 3."""
    data, model = world
    frames, writer = pixels(clip), data.maker.writer
    limits = limits_with(data.maker, clip, 48)
    reserve = min(2 * 4, limits.tokens // 4)
    streamer = Recording(model, clip, maker_like(data.maker, limits), NEVER, "drop_middle", max_new_tokens=4)
    texts = {1: "One two", 3: "Where were we before that?"}
    ids = {}
    number = 0
    while streamer.counts.total() == 0:
        streamer.push_frame(frames[number])
        if number in texts and streamer.counts.total() == 0:
            streamer.push_user(texts[number])
            said = writer.turn("user", texts[number])
            ids[number] = [*said.header, *said.body, *said.end]
        number += 1
    feed, newest = fresh_feed(streamer), number - 1
    groups = [[writer.image_id, *ids.get(index, [])] for index in range(newest)]
    assert limits.tokens < len(writer.header(clip, clip.initial_state)) + sum(map(len, groups)) + 1 + reserve
    half = groups[-(len(groups) // 2) :]
    while sum(map(len, half)) > 48 - reserve - 1:
        half = half[1:]
    assert feed.ids == [
        *writer.header(clip, clip.initial_state),
        *(token for group in half for token in group),
        writer.image_id,
    ]


@pytest.mark.parametrize("on_full_context", ["carry_state", "drop_middle", "drop_all"])
def test_a_long_video_stays_within_the_limits(world, clip, on_full_context):
    data, model = world
    frames, limits = pixels(clip), limits_with(data.maker, clip, 60, 40)
    streamer = Streamer(model, clip, maker_like(data.maker, limits), NEVER, on_full_context, max_new_tokens=8)
    cache = streamer._batch.cache
    for number in range(300):
        streamer.push_frame(frames[number % len(frames)])
        assert cache.lengths == [streamer._num_tokens] and len(streamer._groups) <= 40
        assert streamer._num_tokens <= limits.tokens and cache.capacity < limits.tokens + 256
    assert streamer.counts[f"contexts that were full: {on_full_context}"] > 3


def test_a_new_context_is_the_one_that_training_makes_of_a_split_clip(world, clip):
    """Opening turn with the state reached, then the last seconds of frames without turns."""
    data, model = world
    frames, limits = pixels(clip), Limits(len(data.maker.writer.header(clip, {"S1": "completed"})) + 60, 12)
    maker = maker_like(data.maker, limits, context_seconds=2.0)
    streamer = Streamer(model, clip, maker, NEVER, max_new_tokens=8)
    for number in range(12):
        streamer.push_frame(frames[number])
    streamer.state = {"S1": "completed"}
    streamer.push_frame(frames[12])
    assert streamer.counts == {"contexts that were full: carry_state": 1}
    with torch.no_grad():
        ids = [*maker.writer.header(clip, {"S1": "completed"}), *maker.writer.frame * 5]
        # fps 2: four frames of context, then the new one.
        forced = model.hidden_states(torch.tensor(ids), frames[8:13], [len(ids)])
        expected = model.decide(forced[-1:])
    assert streamer.probabilities == pytest.approx(expected[0].tolist(), abs=1e-5)


def test_a_user_turn_that_cannot_fit_is_cut_and_counted(world, clip):
    data, model = world
    limits = limits_with(data.maker, clip, 40)
    streamer = Recording(model, clip, maker_like(data.maker, limits), NEVER, "drop_all", max_new_tokens=4)
    streamer.push_frame(pixels(clip)[0])
    streamer.push_user("why " * 200)
    writer = data.maker.writer
    assert streamer.counts == {"user turns cut off": 1, "contexts that were full: drop_all": 1}
    assert streamer._num_tokens == limits.tokens - 8
    assert streamer.feeds[-1].ids[-1 - len(writer.newline) :] == [writer.end_id, *writer.newline]


def test_an_opening_turn_that_leaves_no_room_raises(world, clip):
    data, model = world
    with pytest.raises(DataError, match="leaves no room for a frame"):
        Streamer(model, clip, maker_like(data.maker, limits_with(data.maker, clip, 0)), NEVER)
