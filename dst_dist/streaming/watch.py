"""A finished run's model watching clips, several at once; or one video live, told line by line."""

import time
from array import array
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.frames import FrameReader
from dst_dist.data.state import format_state
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_ROLES, HEADS
from dst_dist.measure.timeline import Event, Watched
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.streaming.reader import Batch, Feed, Reading
from dst_dist.streaming.stream import Stream, Streamer, Thresholds

MISSING = "missing frames seen as grey, and what is told at them counts all the same"
"""What a stream counts; teacher-forced, nothing is asked at such frames."""
FRAMES_AHEAD = 16
"""Frames of a stream that are read and encoded at once where several are watched."""


def watch(
    model: SmolVLMForDST,
    data: SampleDataset,
    clips: Sequence[Clip],
    thresholds: Thresholds,
    on_full_context: str,
    num_streams: int = 1,
) -> Iterator[Watched]:
    """Stream each clip from its start, with the user's turns at their frames; yields in the order of `clips`.

    Args:
        data: the split that the clips are of.
        thresholds, on_full_context: as in `Stream`.
        num_streams: videos at once, in one batch: as soon as one ends the next begins in its row.
    """
    rows, done, num_given = _Rows(model, data, clips, thresholds, on_full_context, num_streams), {}, 0
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
        self,
        model: SmolVLMForDST,
        data: SampleDataset,
        clips: Sequence[Clip],
        thresholds: Thresholds,
        on_full_context: str,
        num_streams: int,
    ):
        self._data, self._waiting = data, iter(enumerate(clips))
        self._thresholds, self._on_full_context = thresholds, on_full_context
        self._batch = Batch(model, num_streams)
        self._reader = FrameReader(data.image_size, max_open=num_streams + 1)
        self._frames_ahead = FRAMES_AHEAD if num_streams > 1 else 1
        self._lap_s = time.perf_counter()
        started = (self._next() for _ in range(num_streams))
        self.active = [row for row in started if row is not None]

    def step(self) -> dict[int, Watched]:
        """One call of the model for all; the clips that end, by position."""
        readings = self._batch.read([row.feed for row in self.active])
        now_s = time.perf_counter()
        for row in self.active:
            row.stream.work_s += (now_s - self._lap_s) / len(self.active)
        self._lap_s = now_s
        done = {}
        # From the last row on: a row that takes the place of an ended one has had its turn.
        for index, reading in reversed(list(enumerate(readings))):
            row = self.active[index]
            try:
                row.feed = row.steps.send(reading)
            except StopIteration as end:
                done[row.position] = end.value
                self._replace(index)
        return done

    def _replace(self, index: int) -> None:
        """Begin the next clip in an ended row; with none left, the last row takes its place."""
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
        position, clip = next(self._waiting, (-1, None))
        if clip is None:
            return None
        stream = Stream(clip, self._data.maker, self._thresholds, self._on_full_context)
        steps = _follow(stream, self._embeddings(stream))
        return _Row(position, stream, steps, next(steps))

    def _embeddings(self, stream: Stream) -> Iterator[torch.Tensor]:
        """The clip's frames, [K, hidden] each."""
        on_missing = self._data.on_missing
        for frames in _read_frames(stream.task, self._reader, on_missing, stream.counts, self._frames_ahead):
            yield from self._batch.encode(torch.from_numpy(frames))


def _follow(stream: Stream, frames: Iterable[torch.Tensor]) -> Generator[Feed, Reading, Watched]:
    """Everything that happens in a clip."""
    clip, said = stream.task, _said(stream.task)
    events: list[Event] = []
    states: list[dict[str, str]] = []
    probabilities, frame_s = array("f"), array("d")
    begun_s = stream.work_s
    for frame in frames:
        events += yield from stream.see(frame)
        probabilities.extend(stream.probabilities)
        for turn in said.get(stream.frame_index, []):
            events += yield from stream.hear(turn.text, turn.role)
        states.append(stream.state)
        frame_s.append(stream.work_s - begun_s)
        begun_s = stream.work_s
    written = np.array(probabilities, np.float32).reshape(-1, len(HEADS))
    return Watched(clip, events, states, written, stream.counts, np.array(frame_s, np.float64))


def _said(clip: Clip) -> dict[int, list[Turn]]:
    """By frame, what the user and the system say: everything but what the model is to write."""
    said: dict[int, list[Turn]] = {}
    for turn in clip.turns:
        if turn.role not in HEAD_ROLES:
            said.setdefault(turn.frame, []).append(turn)
    return said


def _read_frames(
    clip: Clip, reader: FrameReader, on_missing: str, counts: Counter[str], num_ahead: int
) -> Iterator[np.ndarray]:
    """The frames of a clip, uint8 [n, 3, size, size] with n <= num_ahead; those that are missing are grey, and counted.

    Raises:
        DataError: at the first that is missing, if `data.on_missing` is `error`.
    """
    for first in range(clip.start_frame, clip.end_frame, num_ahead):
        indexes = range(first, min(first + num_ahead, clip.end_frame))
        frames = np.empty((len(indexes), 3, reader.size, reader.size), np.uint8)
        missing = np.flatnonzero(~reader.read(clip.frames_path, indexes, frames))
        if len(missing) and on_missing == "error":
            raise DataError(
                f"{clip.id}: frame {indexes[missing[0]]} of {clip.video} cannot be decoded; mend the file, or set "
                "data.on_missing to placeholder"
            )
        counts[MISSING] += len(missing)
        yield frames


def tell_clip(streamer: Streamer, data: SampleDataset) -> Iterator[str]:
    """As `tell`, with the frames of the task's own clip, which is one of the dataset's."""
    blocks = _read_frames(streamer.task, FrameReader(data.image_size), data.on_missing, streamer.counts, 1)
    return tell(streamer, (frames[0] for frames in blocks))


def tell(streamer: Streamer, frames: Iterable[np.ndarray]) -> Iterator[str]:
    """Show a streamer a video, with the user's turns of its task at their frames; lines for people, as things happen.

    Args:
        frames: uint8 [3, S, S] each, `task.fps` a second, from `task.start_frame` on.
    """
    task, said = streamer.task, _said(streamer.task)
    yield f"{task.id}: {task.goal}"
    for frame in frames:
        events = streamer.push_frame(torch.tensor(frame))
        time_s = streamer.frame_index / task.fps
        yield from (_line(time_s, _event_text(event)) for event in events)
        for turn in said.pop(streamer.frame_index, []):
            yield _line(time_s, f"{turn.role}: {turn.text}")
            events = streamer.push_user(turn.text) if turn.role == "user" else streamer.push_system(turn.text)
            yield from (_line(time_s, _event_text(event)) for event in events or ())
    num_frames = streamer.frame_index + 1 - task.start_frame
    if task.steps:
        yield f"  state: {format_state(streamer.state, streamer.step_ids)}"
    counts = Counter(streamer.counts) + Counter({"turns behind the video's end": sum(map(len, said.values()))})
    remarks = "".join(f"; {number} {kind}" for kind, number in counts.items())
    if num_frames:
        frame_s = streamer.work_s / num_frames
        yield f"  {frame_s * 1000:.1f} ms a frame, {1 / (frame_s * task.fps):.1f} times real time{remarks}"
    else:
        yield f"  no frames{remarks}"


def _line(time_s: float, text: str) -> str:
    return f"  {time_s:8.1f} s  {text}"


def _event_text(event: Event) -> str:
    remark = f"  ({event.num_illegal} not allowed)" if event.num_illegal else ""
    return f"{event.role}: {event.text}  [{event.probability:.2f}]{remark}"
