"""A stream sees the very tokens of training, keeps the state, and never runs out of context."""

from dataclasses import replace

import pytest
import torch

from dst_dist.data.samples import Limits
from dst_dist.data.state import Transition, parse_update
from dst_dist.errors import DataError
from dst_dist.measure.timeline import Event
from dst_dist.streaming.stream import Stream, Streamer, check_openings
from tests.streaming.streams import (
    FRAME_NUMBERS,
    NEVER,
    Memory,
    Recording,
    Scripted,
    limits_with,
    maker_like,
    model_with,
    pixels,
    script_of,
    teacher_forced,
    with_system_turns,
)

MIB = 2**20


@pytest.fixture(scope="module")
def clip(world):
    return world[0].clips.index[0]


class ScriptedStreamer(Scripted, Streamer):
    def __init__(self, model, task, *arguments):
        self.script, self.feeds = script_of(task), []
        Streamer.__init__(self, model, task, *arguments)


@pytest.mark.parametrize("tokens_per_frame", [1, 4])
def test_hidden_states_are_those_of_teacher_forcing(world, monkeypatch, tokens_per_frame):
    data, model = world
    maker = maker_like(data.maker, tokens_per_frame=tokens_per_frame)
    if tokens_per_frame > 1:
        model = model_with(maker.writer.tokenizer, tokens_per_frame)
    read, states = model.continue_from, []
    monkeypatch.setattr(model, "continue_from", lambda *step: states.append(read(*step)) or states[-1])
    for index in (0, 1, 4):
        clip = with_system_turns(data.clips.index[index])
        assert index != 0 or any(turn.role == "user" for turn in clip.turns)
        streamer = ScriptedStreamer(model, clip, maker, NEVER)
        states.clear()
        for position, frame in enumerate(pixels(clip), start=clip.start_frame):
            streamer.push_frame(frame)
            for turn in (turn for turn in clip.turns if turn.role in ("user", "system") and turn.frame == position):
                (streamer.push_user if turn.role == "user" else streamer.push_system)(turn.text)
        streamed, forced = torch.cat(states), teacher_forced(model, maker, clip)
        # What was written last is read with the next frame, which does not come.
        assert len(streamed) == len(forced) - len(streamer._unread)
        torch.testing.assert_close(streamed, forced[: len(streamed)], atol=2e-5, rtol=1e-4)


def test_what_it_writes_is_what_greedy_decoding_writes(world, clip):
    """Against decoding without a cache, token by token on the whole row."""
    data, model = world
    frames = pixels(clip)
    streamer = Streamer(model, clip, data.maker, {"dst_update": 2.0, "speaking": -1.0}, max_new_tokens=5)
    (event,) = streamer.push_frame(frames[0])
    writer = data.maker.writer
    ids = [*writer.header(clip, clip.initial_state), *writer.frame, *writer.turn("assistant", "").header]
    body = []
    with torch.no_grad():
        while len(body) < 5:
            hidden = model.hidden_states(torch.tensor(ids + body), frames[:1], [len(ids + body)])
            token = int(model.lm_head(hidden[-1:]).argmax())
            if token == writer.end_id:
                break
            body.append(token)
    assert (event.role, event.text) == ("assistant", writer.tokenizer.decode(body).strip())
    assert event.frame == clip.start_frame


def test_a_turn_longer_than_the_cap_is_cut_and_counted(world, clip, monkeypatch):
    data, model = world
    monkeypatch.setattr(model, "next_tokens", lambda hidden: torch.full((len(hidden),), 100))
    streamer = Recording(model, clip, data.maker, {"dst_update": 2.0, "speaking": -1.0}, max_new_tokens=7)
    (event,) = streamer.push_frame(pixels(clip)[0])
    writer = data.maker.writer
    assert event.text == writer.tokenizer.decode([100] * 7).strip()
    assert streamer.counts == {"turns cut off": 1}
    # It is closed all the same, so that the context stays of the form of training.
    empty = writer.turn("assistant", "")
    assert streamer._groups[-1].ids == [*empty.header, *[100] * 7, writer.end_id, *empty.end]


def test_it_never_writes_an_image_token(world, clip, monkeypatch):
    """It would stand for a frame that is not there."""
    data, model = world
    image_id = data.maker.writer.image_id
    bias = torch.zeros(768)
    bias[image_id], bias[100] = 100, 50
    monkeypatch.setattr(model.lm_head, "forward", lambda hidden: bias.expand(len(hidden), -1).clone())
    streamer = Streamer(model, clip, data.maker, {"dst_update": 2.0, "speaking": -1.0}, max_new_tokens=3)
    (event,) = streamer.push_frame(pixels(clip)[0])
    assert event.text == data.maker.writer.tokenizer.decode([100] * 3).strip()


def test_generation_runs_in_bf16(world, clip, monkeypatch):
    data, model = world
    monkeypatch.setattr(model, "compute_dtype", torch.bfloat16)
    streamer = Streamer(model, clip, data.maker, {"dst_update": 2.0, "speaking": -1.0}, max_new_tokens=4)
    for frame in pixels(clip)[:3]:
        (event,) = streamer.push_frame(frame)
        assert 0 < event.probability < 1
    assert {states.dtype for layer in streamer._batch.cache._layers for states in layer} == {torch.bfloat16}


def test_updates_change_the_state_and_what_is_not_allowed_is_counted(world, clip):
    data, model = world
    frame, clip = pixels(clip)[0], replace(clip, initial_state={"S1": "in_progress"})
    streamer = Recording(model, clip, data.maker, {"dst_update": -1.0, "speaking": 2.0})
    streamer.saying = '[{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "resume"}]'
    (event,) = streamer.push_frame(frame)
    assert event.transitions == (Transition("S1", "complete"), Transition("S2", "resume")) and event.num_illegal == 1
    assert streamer.state == {"S1": "completed"}
    streamer.saying = "[{"
    (unreadable,) = streamer.push_frame(frame)
    assert unreadable == Event(
        "DST_UPDATE", clip.start_frame + 1, "[{", unreadable.probability, written_s=unreadable.written_s
    )
    assert streamer.state == {"S1": "completed"}
    assert streamer.counts == {"transitions not allowed": 1, "updates that cannot be read": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '[{"id": "S9", "transition": "start"}]',
        '[{"id": "S1", "transition": "begin"}]',
        '[{"id": "S1", "transition": ["start"]}]',
        '[{"id": {}, "transition": "start"}]',
        "[" * 2000,
        '[{"id": "S1", "id": "S2", "transition": "start"}]',
        '[{"id": "S1"}]',
        '[{"id": "S1", "transition": "start", "more": 1}]',
        '[{"id": "S1", "transition": "start"}] x',
    ],
)
def test_updates_are_read_strictly(text):
    with pytest.raises(ValueError):
        parse_update(text, ["S1", "S2"])


def test_a_state_too_long_for_a_context_is_found_before_the_first_frame(world, clip):
    """The model may write every step into the state, whatever the dialog says."""
    maker = maker_like(world[0].maker, limits_with(world[0].maker, clip, 2))
    Stream(clip, maker, NEVER)
    with pytest.raises(DataError, match=rf"^{clip.id}: the opening turn \(.* leaves no room for a frame"):
        check_openings([replace(clip, steps=()), clip], maker)
    check_openings([clip], world[0].maker)


def test_time_is_that_of_computing(world, clip, monkeypatch):
    """A clock that moves by 1 s at every call of the model, and by 100 s between frames."""
    data, model = world
    clock = [0.0]
    monkeypatch.setattr("dst_dist.streaming.stream.time.perf_counter", lambda: clock[0])
    read = model.continue_from
    monkeypatch.setattr(model, "continue_from", lambda *step: clock.__setitem__(0, clock[0] + 1) or read(*step))
    monkeypatch.setattr(model, "next_tokens", lambda hidden: torch.tensor([data.maker.writer.end_id]))
    streamer = Streamer(model, clip, data.maker, {"dst_update": -1.0, "speaking": -1.0})
    for frame in pixels(clip)[:2]:
        clock[0] += 100
        events = streamer.push_frame(frame)
        # One call for the frame, one for each empty turn.
        assert [event.written_s for event in events] == [2, 3]
    clock[0] += 100
    assert [event.written_s for event in streamer.push_user("Well?")] == [5, 6]
    assert streamer.work_s == 9


def fresh_feed(streamer):
    """The one feed that began a new context, after the first."""
    (feed,) = [feed for feed in streamer.feeds[1:] if feed.is_fresh]
    return feed


@pytest.mark.parametrize("on_full_context", ["carry_state", "drop_middle", "drop_all"])
def test_what_a_new_context_keeps(world, clip, on_full_context):
    """Six frames fill it; the user spoke after frame 4 (from 0). The seventh frame:

    carry_state: state reached, 10 s of context are 20 frames, at most half of what 6 leave beside the new one: 2.
    drop_middle: the state of the beginning, the newer half with its turns. drop_all: the opening alone.
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


def test_the_newer_half_is_kept_as_far_as_it_fits(world, clip):
    """Room for 48 tokens, a quarter of which is for turns to write: 4 frames, 20 tokens after the third, and no more."""
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


def test_an_opening_turn_that_leaves_no_room_is_refused(world, clip):
    data, model = world
    with pytest.raises(DataError, match="leaves no room for a frame"):
        Streamer(model, clip, maker_like(data.maker, limits_with(data.maker, clip, 0)), NEVER)


def growth_of(streamer, frames, first, last):
    """Of memory between two frame numbers, and of the objects alive."""
    memory = None
    for number in range(streamer.frame_index + 1, last):
        if number == first:
            memory = Memory.now()
        streamer.push_frame(frames[number % len(frames)])
    return memory.growth()


class Leaky(Streamer):
    """Keeps what it saw of every frame: a few hundred bytes."""

    def __init__(self, *arguments, **options):
        self.kept = []
        super().__init__(*arguments, **options)

    def see(self, frame):
        self.kept.append(frame)
        return super().see(frame)


@pytest.mark.parametrize("num_frames", FRAME_NUMBERS)
def test_memory_stays_flat(world, clip, num_frames):
    """The control shows that one small tensor kept of every frame would be seen."""
    data, clip = world[0], replace(clip, start_frame=0)
    model = model_with(data.maker.writer.tokenizer, 1, image_size=16)
    frames, maker = pixels(clip, 16), maker_like(data.maker, limits_with(data.maker, clip, 100))
    streamer = Streamer(model, clip, maker, NEVER, max_new_tokens=8)
    num_objects, mib = growth_of(streamer, frames, num_frames // 5, num_frames)
    assert num_objects < 300 and mib < 3
    assert streamer._batch.cache.capacity < 512 and streamer.counts.total() > 10
    num_objects, _ = growth_of(Leaky(model, clip, maker, NEVER, max_new_tokens=8), frames, 100, 500)
    assert num_objects > 300
