"""Clips in memory: what both public formats become, and a compact index that holds very many of them."""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dst_dist.data.state import Transition

Role = Literal["system", "user", "assistant", "DST_UPDATE"]

CLOCK_ERROR_S = 1e-6
"""Times are frames divided by frames a second: the edge of a tolerance or a window may be missed by a rounding."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the task; times in seconds of the video, None where the data gives none."""

    id: str
    name: str
    start_ts: float | None = None
    end_ts: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn. `frame` is its decision frame and `[first_frame, frame]` its range: absolute frames, inclusive.

    `transitions` is filled for DST_UPDATE turns alone; their `text` is what the model learns to write.
    """

    role: Role
    text: str
    transitions: tuple[Transition, ...]
    first_frame: int
    frame: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch `[start_frame, end_frame)` of a video with its turns in the order of the file.

    `video` is the frames file below the data root (posix) and names the video; `frames_path` is where it lies.
    `initial_state` leaves out steps that are not started. Without `has_dst` there are no steps and no updates:
    such a clip says nothing about the dialog state.
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


class ClipIndex:
    """Read-only sequence of clips, kept as bytes in numpy arrays and rebuilt on access.

    Data workers are forks. Python objects that they read get written to (reference counts), so every worker would
    end up with its own copy of a list of clips; arrays stay shared.
    """

    def __init__(self, contents: "_Records", paths: "_Records"):
        self._contents = contents
        # Kept apart from the contents, so that moving the data does not change the fingerprint.
        self._paths = paths

    @classmethod
    def from_clips(cls, clips: Iterable[Clip]) -> "ClipIndex":
        """Build from any iterable, which may be a generator: one clip at a time is in memory."""
        contents, paths = _RecordWriter(), _RecordWriter()
        for clip in clips:
            contents.append(_encode(clip))
            paths.append(clip.frames_path.encode())
        return cls(contents.finish(), paths.finish())

    def __len__(self) -> int:
        return len(self._contents)

    def __getitem__(self, position: int) -> Clip:
        if not -len(self) <= position < len(self):
            raise IndexError(f"clip {position} of {len(self)}")
        position %= len(self)
        return _decode(self._contents[position], self._paths[position].decode())

    def __iter__(self) -> Iterator[Clip]:
        return (self[position] for position in range(len(self)))

    def subset(self, keep: Sequence[int]) -> "ClipIndex":
        """The clips at these positions, in this order."""
        return ClipIndex(self._contents.take(keep), self._paths.take(keep))

    def fingerprint(self) -> str:
        """sha256 of all that the clips say, in order; where the data root lies makes no difference."""
        return self._contents.sha256()


class _Records:
    """Byte strings one after another: `data` uint8 [total], record i at `offsets[i]:offsets[i + 1]` (int64)."""

    def __init__(self, data: np.ndarray, offsets: np.ndarray):
        self.data, self.offsets = data, offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> bytes:
        return self.data[self.offsets[position] : self.offsets[position + 1]].tobytes()

    def take(self, keep: Sequence[int]) -> "_Records":
        writer = _RecordWriter()
        for position in keep:
            writer.append(self[position])
        return writer.finish()

    def sha256(self) -> str:
        digest = hashlib.sha256(self.offsets.tobytes())
        digest.update(self.data.data)
        return digest.hexdigest()


class _RecordWriter:
    def __init__(self):
        self._data, self._offsets = bytearray(), array("q", [0])

    def append(self, record: bytes) -> None:
        self._data += record
        self._offsets.append(len(self._data))

    def finish(self) -> _Records:
        return _Records(np.frombuffer(bytes(self._data), np.uint8), np.array(self._offsets, np.int64))


def _encode(clip: Clip) -> bytes:
    fields = [
        clip.id,
        clip.dataset,
        clip.domain,
        clip.video,
        clip.start_frame,
        clip.end_frame,
        clip.fps,
        clip.prompt,
        clip.goal,
        [(step.id, step.name, step.start_ts, step.end_ts) for step in clip.steps],
        clip.initial_state,
        [(turn.role, turn.text, turn.transitions, turn.first_frame, turn.frame) for turn in clip.turns],
        clip.has_dst,
    ]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _decode(record: bytes, frames_path: str) -> Clip:
    *head, steps, initial_state, turns, has_dst = json.loads(record)
    clip_id, dataset, domain, video, start, end, fps, prompt, goal = head
    return Clip(
        clip_id,
        dataset,
        domain,
        video,
        frames_path,
        start,
        end,
        fps,
        prompt,
        goal,
        tuple(Step(*step) for step in steps),
        initial_state,
        tuple(_decode_turn(*turn) for turn in turns),
        has_dst,
    )


def _decode_turn(role: Role, text: str, transitions: list[list[str]], first_frame: int, frame: int) -> Turn:
    return Turn(role, text, tuple(Transition(*change) for change in transitions), first_frame, frame)
