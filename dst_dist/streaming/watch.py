"""Streams clips through a model, several at once in one batch."""

import time
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.features import FeatureReader
from dst_dist.data.frames import FrameReader
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_ROLES, HEADS
from dst_dist.measure.timeline import Watched
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.streaming.reader import Batch, Feed, Reading
from dst_dist.streaming.stream import Stream

MISSING = "missing frames seen as grey, whose gold turns count all the same"
"""Counted by a stream; in teacher-forced evaluation such frames are ignored."""
FRAMES_AHEAD = 16
"""Frames of a stream that are read and encoded at once when several are watched."""

NewStream = Callable[[Clip], Stream]


def watch(
    model: SmolVLMForDST, data: SampleDataset, clips: Sequence[Clip], new_stream: NewStream, num_streams: int = 1
) -> Iterator[Watched]:
    """Stream each clip from its start, with the user's turns at their frames; yield in the order of `clips`.

    Args:
        data: the split that the clips are from.
        new_stream: makes the stream of a clip.
        num_streams: clips in one batch; as soon as one ends, the next begins in its row.
    """
    rows, done, num_given = _Rows(model, data, clips, new_stream, num_streams), {}, 0
    while rows.active:
        done |= rows.step()
        while num_given in done:
            yield done.pop(num_given)
            num_given += 1


@dataclass
class _Row:
    """A clip that is being watched: its position, and the feed that its steps wait for."""

    position: int
    stream: Stream
    steps: Generator[Feed, Reading, Watched]
    feed: Feed


class _Rows:
    """The streams of a batch. Row i of the batch is the i-th active one."""

    def __init__(
        self, model: SmolVLMForDST, data: SampleDataset, clips: Sequence[Clip], new_stream: NewStream, num_streams: int
    ):
        self._data, self._waiting, self._new_stream = data, enumerate(clips), new_stream
        self._batch = Batch(model, num_streams)
        self._reader = data.reader.with_open_files(num_streams + 1)
        self._frames_ahead = FRAMES_AHEAD if num_streams > 1 else 1
        self._lap_s = time.perf_counter()
        started = (self._next() for _ in range(num_streams))
        self.active = [row for row in started if row is not None]

    def step(self) -> dict[int, Watched]:
        """Call the model once for all streams; return the clips that ended, by position."""
        readings = self._batch.read([row.feed for row in self.active])
        now_s = time.perf_counter()
        for row in self.active:
            row.stream.work_s += (now_s - self._lap_s) / len(self.active)
        self._lap_s = now_s
        done = {}
        # From the last row on, so that a row moved into an ended one's place has had its turn.
        for index, reading in reversed(list(enumerate(readings))):
            row = self.active[index]
            try:
                row.feed = row.steps.send(reading)
            except StopIteration as end:
                done[row.position] = end.value
                self._replace(index)
        return done

    def _replace(self, index: int) -> None:
        """Begin the next clip in an ended row; if there is none, the last row takes its place."""
        new = self._next()
        if new is not None:
            self.active[index] = new
            return
        last = self.active.pop()
        self._batch.cache.clear(index)
        if index < len(self.active):
            self.active[index] = last
            self._batch.cache.move(len(self.active), index)

    def _next(self) -> _Row | None:
        for position, clip in self._waiting:
            stream = self._new_stream(clip)
            steps = _follow(stream, self._embeddings(stream))
            return _Row(position, stream, steps, next(steps))
        return None

    def _embeddings(self, stream: Stream) -> Iterator[torch.Tensor]:
        """Yield the clip's frames, [K, hidden] each."""
        for frames in read_frames(stream, self._reader, self._data.on_missing, self._frames_ahead):
            yield from self._batch.encode(frames)


def _follow(stream: Stream, frames: Iterable[torch.Tensor]) -> Generator[Feed, Reading, Watched]:
    """Show a stream the frames and the given turns of its clip; return what it wrote."""
    given = given_turns(stream.task)
    events, states = [], []
    probabilities, done_s = array("f"), array("d")
    for frame in frames:
        events += yield from stream.see(frame)
        probabilities.extend(stream.probabilities)
        for turn in given.get(stream.frame_index, []):
            events += yield from stream.hear(turn.text, turn.role)
        states.append(stream.state)
        done_s.append(stream.work_s)
    table = np.array(probabilities, np.float32).reshape(-1, len(HEADS))
    return Watched(stream.task, events, states, table, stream.counts, np.diff(done_s, prepend=0.0))


def given_turns(clip: Clip) -> dict[int, list[Turn]]:
    """Return the user's and the system's turns by frame, which the model does not write."""
    given: dict[int, list[Turn]] = {}
    for turn in clip.turns:
        if turn.role not in HEAD_ROLES:
            given.setdefault(turn.frame, []).append(turn)
    return given


def read_frames(
    stream: Stream, reader: FrameReader | FeatureReader, on_missing: str, num_ahead: int = 1
) -> Iterator[torch.Tensor]:
    """Yield the frames of a stream's clip, uint8 [n, 3, size, size] or features [n, ...], with n <= num_ahead.

    Missing frames are grey, and counted in the stream's counts.

    Raises:
        DataError: at the first missing frame, if `data.on_missing` is `error`.
    """
    clip = stream.task
    for first in range(clip.start_frame, clip.end_frame, num_ahead):
        indexes = range(first, min(first + num_ahead, clip.end_frame))
        frames = reader.empty(len(indexes))
        missing = np.flatnonzero(~reader.read(clip.frames_path, indexes, frames))
        if len(missing) and on_missing == "error":
            raise DataError(
                f"{clip.id}: frame {indexes[missing[0]]} of {clip.video} cannot be decoded; mend the file, or set "
                "data.on_missing to placeholder"
            )
        stream.counts[MISSING] += len(missing)
        yield frames
