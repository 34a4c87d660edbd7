"""Several videos in one batch: each is watched as if it were alone."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dst_dist.data.frames import open_frames, write_frames
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.kv_cache import BLOCK, KVCache
from dst_dist.streaming import watch as watch_module
from dst_dist.streaming.reader import Batch
from dst_dist.streaming.stream import Stream
from dst_dist.streaming.watch import _Rows
from tests.streaming.streams import (
    FRAME_NUMBERS,
    Memory,
    Scripted,
    limits_with,
    maker_like,
    model_with,
    run_of,
    shortened,
    teacher_forced,
    watch_run,
    with_system_turns,
)


@pytest.mark.parametrize("tokens_per_frame", [1, 4])
def test_hidden_states_of_a_batch_are_those_of_teacher_forcing(world, monkeypatch, tokens_per_frame):
    """Three rows for six clips of different lengths: a row begins the next clip, or is moved when there is none."""
    data, model = world
    maker = maker_like(data.maker, tokens_per_frame=tokens_per_frame)
    if tokens_per_frame > 1:
        model = model_with(maker.writer.tokenizer, tokens_per_frame)
    streams, read, step, moves = [], {}, [], []

    class Kept(Scripted):
        """A scripted stream that is added to `streams`."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            streams.append(self)

    def record(self, feeds, rows, last_states=Batch._last_states):
        last = last_states(self, feeds, rows)
        pieces = step[-1].split([len(feeds[row].ids) for row in rows])
        read.update({id(feeds[row]): piece for row, piece in zip(rows, pieces, strict=True)})
        return last

    continue_from, move = model.continue_from, KVCache.move
    monkeypatch.setattr(model, "continue_from", lambda *given: step.append(continue_from(*given)) or step[-1])
    monkeypatch.setattr(Batch, "_last_states", record)
    monkeypatch.setattr(KVCache, "move", lambda self, *rows: moves.append(rows) or move(self, *rows))
    clips = [
        shortened(with_system_turns(data.clips.index[index]), length)
        for index, length in enumerate((16, 3, 9, 16, 12, 14))
    ]
    watched = list(watch_run(run_of(model, maker), clips, 3, Kept))
    assert [one.clip for one in watched] == clips and moves
    for stream in streams:
        streamed, forced = (
            torch.cat([read[id(feed)] for feed in stream.feeds]),
            teacher_forced(model, maker, stream.task),
        )
        assert len(streamed) == len(forced) - len(stream._unread)
        torch.testing.assert_close(streamed, forced[: len(streamed)], atol=2e-5, rtol=1e-4)


def written_by(watched):
    return [(one.role, one.frame, one.text, one.transitions, one.num_illegal) for one in watched.events]


@pytest.mark.parametrize("on_full_context", ["carry_state", "drop_middle", "drop_all"])
def test_eight_streams_in_a_batch_write_what_each_writes_alone(world, on_full_context):
    """Nine clips, contexts that become full, and an untrained model that writes at a third of the frames."""
    data, model = world
    new_stream = partial(Stream, max_new_tokens=12)
    clips = [shortened(data.clips.index[index], 16 - index) for index in range(9)]
    maker = maker_like(data.maker, limits_with(data.maker, clips[0], 120, 10))
    silent = np.concatenate([one.probabilities for one in watch_run(run_of(model, maker), clips[:3], 1, new_stream)])
    thresholds = dict(zip(HEAD_NAMES, np.quantile(silent, 0.66, axis=0).tolist(), strict=True))
    run = run_of(model, maker, thresholds, on_full_context)
    alone, together = (list(watch_run(run, clips, number, new_stream)) for number in (1, 8))
    assert sum(len(one.events) for one in alone) > 20
    assert sum(one.counts[f"contexts that were full: {on_full_context}"] for one in alone) > 5
    for one, other in zip(alone, together, strict=True):
        assert written_by(one) == written_by(other)
        assert one.clip == other.clip and one.states == other.states and one.counts == other.counts
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        for event, same in zip(one.events, other.events, strict=True):
            assert event.probability == pytest.approx(same.probability, abs=1e-5)
            assert 0 < same.written_s <= other.frame_s[same.frame - other.clip.start_frame]
        assert other.probabilities.shape == (len(other.states), 2) == (len(other.frame_s), 2)


def test_shares_of_time_add_up_to_the_time_that_passed(world, monkeypatch):
    """A clock that moves by 1 s at every call of the model."""
    data, model = world
    clock = [0.0]
    monkeypatch.setattr(watch_module.time, "perf_counter", lambda: clock[0])
    read = model.continue_from
    monkeypatch.setattr(model, "continue_from", lambda *step: clock.__setitem__(0, clock[0] + 1) or read(*step))
    clips = [replace(shortened(data.clips.index[0], length), turns=()) for length in (2, 5, 3)]
    run = run_of(model, data.maker)
    for num_streams in (1, 2, 3):
        clock[0] = 0.0
        shares = [one.frame_s for one in watch_run(run, clips, num_streams)]
        assert sum(share.sum() for share in shares) == pytest.approx(clock[0])
        if num_streams == 1:
            assert [share.tolist() for share in shares] == [[1.0] * 2, [1.0] * 5, [1.0] * 3]


def test_a_missing_frame_is_grey_and_counted_or_raises(world, tmp_path):
    data, model = world
    clip = shortened(data.clips.index[0], 4)
    file = open_frames(clip.frames_path)
    write_frames(tmp_path / "broken.arrow", [b"" if row == 2 else file.jpeg(row) for row in range(4)])
    broken = replace(clip, start_frame=0, end_frame=4, frames_path=str(tmp_path / "broken.arrow"), turns=())
    for num_streams in (1, 2):
        (one,) = watch_run(run_of(model, data.maker, on_missing="placeholder"), [broken], num_streams)
        assert one.counts == {watch_module.MISSING: 1}
        with pytest.raises(DataError, match=rf"^{broken.id}: frame 2 of {broken.video} cannot be decoded; mend"):
            list(watch_run(run_of(model, data.maker), [broken], num_streams))


def long_clips(clip, num_frames, path):
    """Return two long clips that repeat a clip's frames."""
    file = open_frames(clip.frames_path)
    jpegs = [file.jpeg(row) for row in range(clip.start_frame, clip.end_frame)]
    write_frames(path, (jpegs[number % len(jpegs)] for number in range(num_frames)))
    clip = replace(clip, start_frame=0, end_frame=num_frames, frames_path=str(path), turns=())
    return [clip, replace(clip, id="another")]


def growth_of(rows, first, last):
    """Return by how much objects and MiB grow while the first stream goes from one frame to another.

    After `last` it continues until its context holds as many frames as at first, which are not counted as growth.
    """
    memory, num_held, stream = None, -1, rows.active[0].stream
    while memory is None or stream.frame_index < last or len(stream._groups) != num_held:
        if memory is None and stream.frame_index >= first:
            memory, num_held = Memory.now(), len(stream._groups)
        rows.step()
    return memory.growth()


@pytest.mark.parametrize("num_frames", FRAME_NUMBERS)
def test_memory_stays_flat_in_a_batch(world, tmp_path, monkeypatch, num_frames):
    """The control shows that one small tensor kept for each frame would be noticed."""
    data = world[0]
    clips = long_clips(data.clips.index[0], num_frames, tmp_path / "long.arrow")
    model = model_with(data.maker.writer.tokenizer, 1, image_size=16)
    maker = maker_like(data.maker, limits_with(data.maker, clips[0], 400))
    run = run_of(model, maker, image_size=16)
    rows = _Rows(model, run.data, clips, run.new_stream, 2)
    num_objects, mib = growth_of(rows, num_frames // 5, num_frames - maker.limits.tokens)
    assert num_objects < 300 and mib < 3
    assert rows._batch.cache.capacity <= maker.limits.tokens + BLOCK
    kept, see = [], Stream.see
    monkeypatch.setattr(Stream, "see", lambda self, frame: kept.append(frame) or see(self, frame))
    rows = _Rows(model, run.data, clips, run.new_stream, 2)
    num_objects, _ = growth_of(rows, 100, 500)
    assert num_objects > 300
