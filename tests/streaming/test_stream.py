"""A stream reads the tokens of training, writes greedily and keeps the dialog state; its memory stays flat."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

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
    steady_growth,
    teacher_forced,
    with_system_turns,
)


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
        # The ids written last would be read with the next frame.
        assert len(streamed) == len(forced) - len(streamer._unread)
        torch.testing.assert_close(streamed, forced[: len(streamed)], atol=2e-5, rtol=1e-4)


def test_its_turns_are_those_of_greedy_decoding(world, clip):
    """Compared with decoding without a cache, token by token on the whole sequence."""
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
    # It still ends as every turn does, so that the context has the form of training.
    empty = writer.turn("assistant", "")
    assert streamer._groups[-1].ids == [*writer.frame, *empty.header, *[100] * 7, writer.end_id, *empty.end]


def test_it_never_writes_an_image_token(world, clip, monkeypatch):
    """An image token needs a frame."""
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


def test_updates_change_the_state_and_illegal_transitions_are_counted(world, clip):
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
def test_malformed_updates_raise(text):
    with pytest.raises(ValueError):
        parse_update(text, ["S1", "S2"])


def test_check_openings_finds_a_state_too_long_for_a_context(world, clip):
    """The model may write every step into the state, whatever the dialog says."""
    maker = maker_like(world[0].maker, limits_with(world[0].maker, clip, 2))
    Stream(clip, maker, NEVER)
    with pytest.raises(DataError, match=rf"^{clip.id}: the opening turn \(.* leaves no room for a frame"):
        check_openings([replace(clip, steps=()), clip], maker)
    check_openings([clip], world[0].maker)


def test_only_computing_counts_as_work(world, clip, monkeypatch):
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


def growth_of(streamer, frames, first, last):
    """Return by how much objects and MiB grow between two frame numbers."""
    memory = None
    for number in range(streamer.frame_index + 1, last):
        if number == first:
            memory = Memory.now()
        streamer.push_frame(frames[number % len(frames)])
    return memory.growth()


class Leaky(Streamer):
    """Keeps a few hundred bytes of every frame."""

    def __init__(self, *arguments, **options):
        self.kept = []
        super().__init__(*arguments, **options)

    def see(self, frame):
        self.kept.append(frame)
        return super().see(frame)


@pytest.mark.parametrize("num_frames", FRAME_NUMBERS)
def test_memory_stays_flat(world, clip, num_frames):
    """The control shows that one small tensor kept for each frame would be noticed."""
    data, clip = world[0], replace(clip, start_frame=0)
    model = model_with(data.maker.writer.tokenizer, 1, image_size=16)
    frames, maker = pixels(clip, 16), maker_like(data.maker, limits_with(data.maker, clip, 100))
    streamer = Streamer(model, clip, maker, NEVER, max_new_tokens=8)
    stretches = [num_frames // 5, num_frames * 3 // 5, num_frames]
    num_objects, mib = steady_growth(*(growth_of(streamer, frames, *ends) for ends in pairwise(stretches)))
    assert num_objects < 150 and mib < 1.5
    assert streamer._batch.cache.capacity < 512 and streamer.counts.total() > 10
    num_objects, _ = growth_of(Leaky(model, clip, maker, NEVER, max_new_tokens=8), frames, 100, 500)
    assert num_objects > 300
