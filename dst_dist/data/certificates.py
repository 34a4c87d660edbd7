"""Remembers which rows of frames files were checked and are good, so that no start checks them again."""

import time
from pathlib import Path

import numpy as np

from dst_dist.data.inputs import Stat, code_digest
from dst_dist.data.mapped_file import read_mapped, write_mapped

LEVELS = ("rows", "headers", "decode")
"""Levels of a check (recipe `data.check`); each contains those before it."""
CHECKING_CODE = ("frames_check.py", "frames.py", "images.py", "jpeg_header.py")

Ranges = list[list[int]]
"""Rows as [first, stop) pairs, ascending."""


class Certificates:
    """Good rows by video, size and time of its file, and level; the rows of a file that changed are forgotten.

    Several runs may write at once: each replaces the whole file, and rows that one of them loses are checked again.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: Path | None):
        self.path, self._now_ns, self._has_news = path, time.time_ns(), False
        self._code = code_digest(Path(__file__).with_name(name) for name in CHECKING_CODE)
        self._files = self._read()

    def unseen(self, video: str, stat: Stat, level: str, rows: np.ndarray) -> np.ndarray:
        """Return the rows, int64 ascending, that no start has checked at `level` or above."""
        for ranges in self._ranges(video, stat)[LEVELS.index(level) :]:
            first, stop = np.array(ranges, np.int64).reshape(-1, 2).T
            place = np.searchsorted(first, rows, side="right") - 1
            rows = rows[(place < 0) | (rows >= stop[place])] if len(first) else rows
        return rows

    def held_bytes(self, video: str, stat: Stat) -> int:
        """Return the bytes of the file that a process holds in its own memory (see `ArrowFrames`), 0 if not known."""
        *kept, held_bytes, _ = self._files.get(video, [0, 0, 0, []])
        return held_bytes if tuple(kept) == stat else 0

    def add(self, video: str, stat: Stat, level: str, good: np.ndarray, held_bytes: int = 0) -> None:
        """Remember rows as good, if the file was not written just now."""
        if not len(good) or not stat.is_settled(self._now_ns):
            return
        by_level = list(self._ranges(video, stat))
        number = LEVELS.index(level)
        known = [np.arange(first, stop) for first, stop in by_level[number]]
        rows = np.unique(np.concatenate([good, *known]))
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        by_level[number] = [[int(run[0]), int(run[-1]) + 1] for run in runs]
        self._files[video] = [*stat, held_bytes, by_level]
        self._has_news = True

    def save(self) -> None:
        """Write what is new. Raises OSError if that is not possible."""
        if self.path is not None and self._has_news:
            # What other runs wrote since.
            files = {**self._read(), **self._files}
            write_mapped(self.path, {"code": self._code, "files": files}, {})

    def _read(self) -> dict[str, list]:
        content = read_mapped(self.path) if self.path is not None else None
        return content[0]["files"] if content is not None and content[0].get("code") == self._code else {}

    def _ranges(self, video: str, stat: Stat) -> list[Ranges]:
        """Return the good rows of each level."""
        *kept, _, by_level = self._files.get(video, [0, 0, 0, []])
        return by_level if tuple(kept) == stat and by_level else [[] for _ in LEVELS]
