"""Clips in memory: the form that both public formats are read into, and a compact index of very many clips."""

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np

from dst_dist.data.state import Transition

Role = Literal["system", "user", "assistant", "DST_UPDATE"]

CLOCK_ERROR_S = 1e-6
"""Slack of a comparison of times: they are frame numbers divided by fps, so a rounding may move them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the task; times in seconds of the video, None where the data has none."""

    id: str
    name: str
    start_ts: float | None = None
    end_ts: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn. `frame` is its decision frame and `[first_frame, frame]` its range: absolute frames, inclusive.

    `transitions` is filled for DST_UPDATE turns only; their `text` is what the model learns to write.
    """

    role: Role
    text: str
    transitions: tuple[Transition, ...]
    first_frame: int
    frame: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch `[start_frame, end_frame)` of a video with its turns in the order of the file.

    `video` is the path of the frames file below the data root (posix) and identifies the video; `frames_path` is the
    file's full path. `initial_state` leaves out steps that are not started. A clip without `has_dst` has no steps and
    no updates: it says nothing about the dialog state.
    """

    id: str
    dataset: str
    domain: str | None
    video: str
    frames_path: str
    start_frame: int
    end_frame: int
    fps: float
    prompt: str
    goal: str
    steps: tuple[Step, ...]
    initial_state: dict[str, str]
    turns: tuple[Turn, ...]
    has_dst: bool


_PATH_PLACE = Clip.__slots__.index("frames_path")
_CONTENT = [name for name in Clip.__slots__ if name != "frames_path"]
_VALUES = {Clip: attrgetter(*_CONTENT), Step: attrgetter(*Step.__slots__), Turn: attrgetter(*Turn.__slots__)}
_ENCODER = json.JSONEncoder(default=lambda part: _VALUES[type(part)](part), ensure_ascii=False, separators=(",", ":"))


class ClipIndex:
    """Read-only sequence of clips, kept as bytes and rebuilt on access.

    Data workers are forks. Reading a Python object writes to its reference count, so every worker would end up with
    its own copy of a list of clips; a few large buffers stay shared.
    """

    def __init__(self, records: Iterable[tuple[bytes, bytes]]):
        """Build from (content, frames path) of each clip; one clip at a time is in memory."""
        contents, self._offsets, paths = bytearray(), array("q", [0]), []
        for content, path in records:
            contents += content
            self._offsets.append(len(contents))
            paths.append(path)
        self._contents = bytes(contents)
        # Apart from the contents, so that moving the data does not change the fingerprint.
        self._paths = np.array(paths, dtype=np.bytes_)

    @classmethod
    def from_clips(cls, clips: Iterable[Clip]) -> "ClipIndex":
        """Build from clips, which may come from a generator."""
        return cls((_encode(clip), os.fsencode(clip.frames_path)) for clip in clips)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> Clip:
        content, path = self._record(range(len(self))[position])
        return _decode(content, os.fsdecode(path))

    def __iter__(self) -> Iterator[Clip]:
        return (self[position] for position in range(len(self)))

    def subset(self, keep: Sequence[int]) -> "ClipIndex":
        """Return the clips at these positions, in this order."""
        return ClipIndex(self._record(position) for position in keep)

    def fingerprint(self) -> str:
        """Return the sha256 of the clips in order, without the place of the data root."""
        digest = hashlib.sha256(self._offsets)
        digest.update(self._contents)
        return digest.hexdigest()

    def _record(self, position: int) -> tuple[bytes, bytes]:
        return self._contents[self._offsets[position] : self._offsets[position + 1]], self._paths[position]


def _encode(clip: Clip) -> bytes:
    return _ENCODER.encode(_VALUES[Clip](clip)).encode()


def _decode(content: bytes, frames_path: str) -> Clip:
    values = json.loads(content)
    values.insert(_PATH_PLACE, frames_path)
    *values, steps, initial_state, turns, has_dst = values
    decoded = (
        Turn(role, text, tuple(Transition(*change) for change in transitions), first_frame, frame)
        for role, text, transitions, first_frame, frame in turns
    )
    return Clip(*values, tuple(Step(*step) for step in steps), initial_state, tuple(decoded), has_dst)
