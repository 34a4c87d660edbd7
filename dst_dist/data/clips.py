"""Clips in memory: the form that both public formats are read into, and a compact index of very many clips."""

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Sequence
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


class ClipIndex(Sequence[Clip]):
    """Read-only sequence of clips, kept as bytes and rebuilt on access.

    Data workers are forks. Reading a Python object writes to its reference count, so every worker would end up with
    its own copy of a list of clips; a few large buffers stay shared, also between processes if they are a mapped file.

    Args:
        arrays: `contents` uint8 [bytes], `offsets` int64 [clips + 1] of each clip's content, and a row a clip of
            `frames` int64 [clips, 2] (start_frame, end_frame), `videos` and `paths` (bytes).
        fingerprint: the sha256, if it is known already.
    """

    def __init__(self, arrays: dict[str, np.ndarray], fingerprint: str | None = None):
        self.arrays = arrays
        self.frames, self._paths = arrays["frames"], arrays["paths"]
        self._contents, self._offsets = arrays["contents"], arrays["offsets"]
        self._fingerprint = fingerprint

    @classmethod
    def from_clips(cls, clips: Iterable[Clip]) -> "ClipIndex":
        """Build from clips, which may come from a generator: one at a time is in memory."""
        contents, offsets, frames, videos, paths = bytearray(), array("q", [0]), array("q"), [], []
        for clip in clips:
            contents += _ENCODER.encode(clip).encode()
            offsets.append(len(contents))
            frames.extend((clip.start_frame, clip.end_frame))
            videos.append(os.fsencode(clip.video))
            # Apart from the contents, so that moving the data does not change the fingerprint.
            paths.append(os.fsencode(clip.frames_path))
        arrays = {
            "contents": np.frombuffer(contents, np.uint8),
            "offsets": np.array(offsets, np.int64),
            "frames": np.array(frames, np.int64).reshape(-1, 2),
            "videos": np.array(videos, np.bytes_),
            "paths": np.array(paths, np.bytes_),
        }
        return cls(arrays)

    @classmethod
    def joined(cls, parts: Sequence["ClipIndex"]) -> "ClipIndex":
        """Return the clips of all parts, one at least, one after the other."""
        names = ("contents", "frames", "videos", "paths")
        arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in names}
        lengths = np.concatenate([np.diff(part.arrays["offsets"]) for part in parts])
        return cls(arrays | {"offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)})

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> Clip:
        position = range(len(self))[position]
        values = json.loads(self._content(position))
        values.insert(_PATH_PLACE, self.frames_path(position))
        *values, steps, initial_state, turns, has_dst = values
        decoded = (
            Turn(role, text, tuple(Transition(*change) for change in transitions), first_frame, frame)
            for role, text, transitions, first_frame, frame in turns
        )
        return Clip(*values, tuple(Step(*step) for step in steps), initial_state, tuple(decoded), has_dst)

    def frames_path(self, position: int) -> str:
        """Return the full path of a clip's frames file."""
        return os.fsdecode(self._paths[position])

    def subset(self, keep: Sequence[int]) -> "ClipIndex":
        """Return the clips at these positions, in this order."""
        places = np.array(keep, np.int64)
        arrays = {name: self.arrays[name][places] for name in ("frames", "videos", "paths")}
        lengths = np.diff(self._offsets)[places]
        arrays["offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        arrays["contents"] = np.frombuffer(b"".join(map(self._content, keep)), np.uint8)
        return ClipIndex(arrays)

    def videos(self) -> list[str]:
        """Return the names of the videos in the order of their first clips; no clip is rebuilt for it."""
        names, first = np.unique(self.arrays["videos"], return_index=True)
        return [os.fsdecode(name) for name in names[np.argsort(first)]]

    def files(self) -> dict[tuple[str, str], np.ndarray]:
        """Return the positions of the clips of each (frames path, video), in the order of their first clips."""
        pairs = zip(self._paths.tolist(), self.arrays["videos"].tolist(), strict=True)
        found: dict[tuple[bytes, bytes], list[int]] = {}
        for position, pair in enumerate(pairs):
            found.setdefault(pair, []).append(position)
        return {(os.fsdecode(path), os.fsdecode(video)): np.array(own) for (path, video), own in found.items()}

    def fingerprint(self) -> str:
        """Return the sha256 of the clips in order, without the place of the data root."""
        if self._fingerprint is None:
            digest = hashlib.sha256(self._offsets)
            digest.update(self._contents)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _content(self, position: int) -> bytes:
        return self._contents[self._offsets[position] : self._offsets[position + 1]].tobytes()
