"""Checks that the frames of clips exist and can be read, before anything is trained on them."""

import os
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from dst_dist.data.clips import ClipIndex
from dst_dist.data.frames import open_frames
from dst_dist.data.images import DECODE_ERRORS
from dst_dist.errors import DataError


@dataclass
class FrameFaults:
    """Missing and corrupt frames of an index's clips; keys are positions in the index."""

    clips: dict[int, str] = field(default_factory=dict)
    """A sentence with the clip and its first fault."""
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Absolute frames that are missing or corrupt, ascending."""
    num_bytes: dict[str, int] = field(default_factory=dict)
    """Size of each frames file by the name of its video, 0 if there is no file."""


def check_frames(index: ClipIndex) -> FrameFaults:
    """Check that every frame of every clip exists and has a JPEG header; each row is read once."""
    uses_by_file: dict[tuple[str, str], list[tuple[int, str, range]]] = defaultdict(list)
    for position, clip in enumerate(index):
        use = position, clip.id, range(clip.start_frame, clip.end_frame)
        uses_by_file[clip.frames_path, clip.video].append(use)
    faults = FrameFaults()
    for (path, video), uses in uses_by_file.items():
        faults.num_bytes[video] = os.path.getsize(path) if os.path.isfile(path) else 0
        wrong = _wrong_rows(path, set().union(*(frames for _, _, frames in uses)))
        for position, clip_id, frames in uses:
            missing = tuple(frame for frame in frames if frame in wrong)
            if missing:
                faults.clips[position] = (
                    f"clip {clip_id}: {len(missing)} of {len(frames)} frames in {video} are missing or corrupt, "
                    f"the first is frame {missing[0]}: {wrong[missing[0]]}"
                )
                faults.missing[position] = missing
    return faults


def _wrong_rows(path: str, rows: Collection[int]) -> dict[int, str]:
    """Return what is wrong with each row that cannot be read."""
    if not os.path.isfile(path):
        return dict.fromkeys(rows, "no such file")
    try:
        file = open_frames(path)
    except DataError as error:
        return dict.fromkeys(rows, str(error))
    wrong: dict[int, str] = {}
    for row in sorted(rows):
        try:
            file.check_header(row)
        except DECODE_ERRORS as error:
            wrong[row] = str(error)
    return wrong
