"""Finds the rows a second of a video's frames file, which ProAssist's files do not state."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from dst_dist.build.dialogs import Video
from dst_dist.data.frames import open_frames
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import Report
from dst_dist.errors import DataError

NOMINAL_FPS = 2.0
SOURCE_RATES = (25, 29.97, 30, 59.94, 24.46)
"""Frame rates of the videos in ProAssist's datasets; 50 and 60 give the same as 30."""
DURATION_OF_STEPS = ("egoexolearn", "assembly101")
"""Datasets whose `duration` is not the video's: a frames file's length says nothing about its rate there."""
NO_FRAMES = "videos without a frames file, which get the rate that is expected"
TOLERANCE = 0.004
"""Largest relative distance between a file's length and the one that a rate means; rates are 0.8 % apart."""


@dataclass(frozen=True)
class Rate:
    """Rows a second of a frames file, and its number of rows, None where there is no file."""

    fps: float
    num_rows: int | None

    def frame(self, time: float) -> int:
        """Return the last row at or before a time in seconds."""
        # The product may be a rounding below a row's very time.
        return math.floor(time * self.fps + 1e-6)


def rows_per_second(source_fps: float) -> float:
    """Return the rate that ProAssist's sampling gives: every int((int(rate) + 0.5) // 2)-th frame of a video.

    The rule is in mmassist/datasets/utils/video_utils.py.
    """
    step = max(1, int((int(source_fps) + 0.5) // NOMINAL_FPS))
    return source_fps / step


def find_rate(video: Video, finder: FramesFinder, fps: float | None, report: Report) -> Rate:
    """Return the rate of a video's frames: as told, else as written beside the frames, else by source and length.

    Args:
        finder: of the data root; the frames are those which the reader of the clips will find.
        fps: rows a second of all videos, None to find out.
        report: counts frames files whose length fits no rate, and whatever else makes the rate doubtful.

    Raises:
        DataError: if the frames cannot be opened, or what is written beside them is no rate.
    """
    path, _ = finder.find(video.frames_file, video.dataset)
    num_rows = len(open_frames(str(path))) if path.is_file() else None
    written = _written_beside(path)
    if fps and written and fps != written:
        report.count("frames files with another rate beside them than --fps, which was taken", f"{path} ({written:g})")
    fps = fps or written
    source = video.annotations.fps
    expected = NOMINAL_FPS if source is None else rows_per_second(source)
    duration = video.annotations.duration
    if num_rows is None and not fps:
        report.count(NO_FRAMES, f"{video.frames_file} ({expected:.3f} a second)")
    if not num_rows or not duration or video.dataset in DURATION_OF_STEPS:
        return Rate(fps or expected, num_rows)
    known = [fps] if fps else [expected, NOMINAL_FPS] if source else [rows_per_second(rate) for rate in SOURCE_RATES]
    nearest = min(known, key=lambda rate: abs(num_rows / duration - rate))
    if abs(num_rows / duration / nearest - 1) > TOLERANCE + 1 / num_rows:
        report.count(
            "frames files whose length fits no rate, taken as given",
            f"{path} ({num_rows} rows in {duration:g} s, expected {fps or expected:.3f} a second)",
        )
        nearest = fps or expected
    return Rate(nearest, num_rows)


def rate_file(frames: Path) -> Path:
    """Return the file beside a frames file that says its rate."""
    return frames.with_suffix(".json")


def _written_beside(frames: Path) -> float | None:
    path = rate_file(frames)
    if not path.is_file():
        return None
    try:
        fps = float(json.loads(path.read_text(encoding="utf-8"))["fps"])
        reason = f"it says {fps}"
    except (ValueError, KeyError, TypeError) as error:
        fps, reason = 0.0, repr(error)
    if not 0 < fps < math.inf:
        raise DataError(
            f"{path}: must be an object whose `fps` is a number above 0 ({reason}); remove it, or say --fps"
        )
    return fps
