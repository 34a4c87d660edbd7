"""Whether the frames of clips are there and can be read, before anything is trained on them."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dst_dist.data.clips import ClipIndex
from dst_dist.data.frames import ArrowFrames, open_frames
from dst_dist.data.images import DECODE_ERRORS, decode_jpeg
from dst_dist.errors import DataError


@dataclass
class FrameFaults:
    """What is wrong with the frames of an index's clips; keys are positions in the index."""

    clips: dict[int, str] = field(default_factory=dict)
    """A sentence that names the clip and its first fault."""
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Absolute frames that are missing or corrupt, ascending."""
    unusable: set[int] = field(default_factory=set)
    """Clips without a single good frame."""
    num_bytes: dict[str, int] = field(default_factory=dict)
    """Size of each frames file by the name of its video, 0 where there is none."""


def check_frames(index: ClipIndex, decode: bool = False) -> FrameFaults:
    """Check that every frame of every clip exists and has a JPEG header; each row is looked at once.

    Args:
        decode: decode every row as well, which finds images that are cut off.
    """
    by_file: dict[tuple[str, str], list[tuple[int, str, range]]] = defaultdict(list)
    for position, clip in enumerate(index):
        use = position, clip.id, range(clip.start_frame, clip.end_frame)
        by_file[clip.frames_path, clip.video].append(use)
    faults = FrameFaults()
    for (path, video), uses in by_file.items():
        faults.num_bytes[video] = os.path.getsize(path) if os.path.isfile(path) else 0
        wrong = _wrong_rows(path, [frames for _, _, frames in uses], decode)
        for position, clip_id, frames in uses:
            missing = tuple(frame for frame in frames if frame in wrong)
            if missing:
                faults.clips[position] = (
                    f"clip {clip_id}: {len(missing)} of {len(frames)} frames in {video} are missing or corrupt, "
                    f"the first is frame {missing[0]}: {wrong[missing[0]]}"
                )
                faults.missing[position] = missing
            if len(missing) == len(frames):
                faults.unusable.add(position)
    return faults


def _wrong_rows(path: str, ranges: list[range], decode: bool) -> dict[int, str]:
    """Row -> what is wrong with it, for all rows of the ranges."""
    rows = sorted(set().union(*ranges))
    if not os.path.isfile(path):
        return dict.fromkeys(rows, "no such file")
    try:
        file = open_frames(path)
    except DataError as error:
        return dict.fromkeys(rows, str(error))
    return dict(_look_at(file, rows, decode))


def _look_at(file: ArrowFrames, rows: Iterable[int], decode: bool) -> Iterator[tuple[int, str]]:
    for row in rows:
        try:
            if decode:
                decode_jpeg(file.jpeg(row))
            else:
                file.check_header(row)
        except DECODE_ERRORS as error:
            yield row, str(error)
