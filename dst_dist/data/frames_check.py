"""Checks that the frames of clips exist and can be read, before anything is trained on them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from dst_dist.data.certificates import Certificates
from dst_dist.data.clips import ClipIndex
from dst_dist.data.forks import in_workers
from dst_dist.data.frames import open_frames
from dst_dist.data.images import DECODE_ERRORS
from dst_dist.data.inputs import Stat, stat_of
from dst_dist.errors import DataError


@dataclass
class FrameFaults:
    """Missing and corrupt frames of an index's clips; keys are positions in the index."""

    clips: dict[int, str] = field(default_factory=dict)
    """A sentence with the clip and its first fault."""
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Absolute frames that are missing or corrupt, ascending."""
    files: dict[str, Stat] = field(default_factory=dict)
    """Size and time of each frames file by the name of its video, as they were before the check."""
    held_bytes: dict[str, int] = field(default_factory=dict)
    """Bytes that each process holds of a compressed file which it opens, by the name of its video."""


def check_frames(
    index: ClipIndex, level: str = "headers", certificates: Certificates | None = None, num_workers: int = 0
) -> FrameFaults:
    """Check that every frame of every clip exists and is sound; each row is read once.

    Args:
        level: one of LEVELS (recipe `data.check`).
        certificates: rows that need no check; those found good are added.
        num_workers: as in `in_workers`.
    """
    certificates = certificates or Certificates(None)
    files, faults, tasks = index.files(), FrameFaults(), []
    for (path, video), positions in files.items():
        stat = faults.files[video] = stat_of(path)
        spans = np.unique(index.frames[positions], axis=0)
        rows = np.unique(np.concatenate([np.arange(start, end) for start, end in spans]))
        tasks.append((path, certificates.unseen(video, stat, level, rows)))
    sizes = [len(rows) for _, rows in tasks]
    results = in_workers(partial(_look, level), tasks, sizes, "frames checked", num_workers)
    for ((_, video), positions), (_, looked_at), (wrong, held_bytes) in zip(files.items(), tasks, results, strict=True):
        stat = faults.files[video]
        if held_bytes := held_bytes or certificates.held_bytes(video, stat):
            faults.held_bytes[video] = held_bytes
        certificates.add(video, stat, level, np.setdiff1d(looked_at, list(wrong)), held_bytes)
        for position in positions.tolist() if wrong else ():
            _note_missing(index, position, video, wrong, faults)
    return faults


def _note_missing(index: ClipIndex, position: int, video: str, wrong: dict[int, str], faults: FrameFaults) -> None:
    """Add the faults of one clip."""
    frames = range(*index.frames[position].tolist())
    missing = tuple(frame for frame in frames if frame in wrong)
    if missing:
        faults.clips[position] = (
            f"clip {index[position].id}: {len(missing)} of {len(frames)} frames in {video} are missing or corrupt, "
            f"the first is frame {missing[0]}: {wrong[missing[0]]}"
        )
        faults.missing[position] = missing


def _look(level: str, task: tuple[str, Iterable[int]]) -> tuple[dict[int, str], int]:
    """Return what is wrong with each of a file's rows that is not sound, and the file's `held_bytes`, 0 if unopened."""
    path, rows = task[0], np.asarray(task[1]).tolist()
    if not rows:
        return {}, 0
    if stat_of(path) == Stat(0, 0):
        return dict.fromkeys(rows, "no such file"), 0
    try:
        file = open_frames(path, is_skimmed=level != "decode")
    except DataError as error:
        return dict.fromkeys(rows, str(error)), 0
    look = {"rows": file.check_row, "headers": file.check_header, "decode": file.image}[level]
    wrong: dict[int, str] = {}
    for row in rows:
        try:
            look(row)
        except DECODE_ERRORS as error:
            wrong[row] = str(error)
    return wrong, file.held_bytes
