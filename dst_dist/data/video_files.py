"""Reads video files (mp4 and others) frame by frame, sampled by the times that the video itself gives its frames."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dst_dist.data.images import TURNS
from dst_dist.errors import ConfigError, DataError
from dst_dist.versions import version_fault

ORIENTATIONS = {
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""Orientation tag that turns a picture as a video's matrix does, by the signs of the matrix."""
END_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
FROM_ZERO = ("asf", "avi")
"""Formats whose length counts from 0, wherever the first frame is."""
MICROSECONDS = 1_000_000
REORDERED = 16
"""Frames by which times may be out of order: AVI and MPEG program streams do not state all of them, and codecs store no
frame further from its place."""
BACK_S = 0.5
"""The least that counts as going backwards, in seconds: some frames do not say how long they last."""


def read_container(path: Path, fps: float) -> Iterator[np.ndarray]:
    """Yield the frames of a video file at `fps` a second (see `sample`), RGB, uint8 [height, width, 3].

    Raises:
        DataError: if it cannot be decoded, or holds no video.
        ConfigError: without PyAV.
    """
    with _open(path) as container:
        from av.video.reformatter import VideoReformatter

        container.streams.video[0].thread_type = "AUTO"
        # One for the video: making it costs ten times as much as using it, and each frame's own would have threads.
        reformatter, turn = VideoReformatter(), None
        for number, frame in enumerate(sample(container.decode(video=0), fps, str(path))):
            if number == 0:
                # Asked of one frame, since it is the container's for all: the answer and the frame hold each other, so
                # that each picture would stay in memory.
                turn = _turn_of(frame)
            pixels = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            yield pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


class Stated(NamedTuple):
    """The length and the shape of pixels that a video file states; its frames do not show them.

    Attributes:
        length_s: seconds from the first frame to the end of the last; None if that is not stated.
        pixel_shape: width of a pixel by its height, as the video is meant to be shown.
    """

    length_s: float | None
    pixel_shape: Fraction


def stated(path: Path) -> Stated:
    """Return the length and the shape of pixels that a video file states. Raises as `read_container`."""
    with _open(path) as container:
        stream = container.streams.video[0]
        return Stated(_length_s(container, stream), Fraction(stream.sample_aspect_ratio or 1))


def _length_s(container: Any, stream: Any) -> float | None:
    kind = container.format.name
    if stream.duration is not None:
        length_s = float(stream.duration * stream.time_base)
        return length_s - _first_s(container, stream) if kind in FROM_ZERO else length_s
    if container.duration is None or "matroska" not in kind:
        return None
    # Matroska, and so WebM, states where the whole file ends, and mostly in a tag where a stream does, both from 0. A
    # tag may be left over from a longer file.
    ends = [container.duration / MICROSECONDS]
    if tag := END_TAG.fullmatch(stream.metadata.get("DURATION", "")):
        ends.append(int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]))
    elif len(container.streams) > 1:
        return None
    return min(ends) - _first_s(container, stream)


def _first_s(container: Any, stream: Any) -> float:
    """Return the time of the first frame that is stored, 0 if it has none."""
    times = (packet.dts if packet.pts is None else packet.pts for packet in container.demux(stream) if packet.size)
    return max(0.0, float((next(times, 0) or 0) * stream.time_base))


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a video file; raise its faults as the user's (DataError, ConfigError)."""
    try:
        import av
    except ImportError:
        raise ConfigError(f"{path}: a video file needs PyAV; pip install 'dst-dist[video]'") from None
    if fault := version_fault("av"):
        raise ConfigError(f"{path}: {fault} for a video file; pip install 'dst-dist[video]'")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video")
            yield container
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be decoded: {error}") from error


def _turn_of(frame: Any) -> Image.Transpose | None:
    """Return the transposition of a decoded frame: phones store it as the sensor is held, with a matrix."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            # Fixed-point numbers [3, 3]; (x, y) is shown at (x, y) times the upper left part, which turns or mirrors.
            matrix = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2]
            return TURNS.get(ORIENTATIONS.get(tuple(np.sign(matrix).ravel().tolist())))
    return None


def sample(frames: Iterable[Any], fps: float, name: str) -> Iterator[Any]:
    """Yield, for each time k / fps from the first frame to the end of the last, the last frame at or before it.

    Args:
        frames: in the order they are shown, each with `pts` and `duration` in units of `time_base` seconds.
        name: of the video, for faults.

    Raises:
        DataError: if a frame has no time, times go backwards, or there is no frame.
    """
    period, first, latest, newest, number = 1 / Fraction(fps).limit_denominator(100_000), 0, 0, None, 0
    for frame in frames:
        if frame.pts is None:
            raise DataError(f"{name}: its frames carry no times; write it into another container, such as mp4")
        if newest is None:
            first = latest = frame.pts
        _check_order(frame, first, latest, name)
        latest = max(latest, frame.pts)
        # Times are rounded to whole ticks: a frame meant for exactly this time may carry the next tick.
        while newest is not None and math.ceil(number * period / frame.time_base) < frame.pts - first:
            yield newest
            number += 1
        newest = frame
    if newest is None:
        raise DataError(f"{name}: holds no frame")
    begin = newest.pts - first
    end_s = (begin + (newest.duration or 0)) * newest.time_base
    while math.ceil(number * period / newest.time_base) <= begin or number * period < end_s:
        yield newest
        number += 1


def _check_order(frame: Any, first: int, latest: int, name: str) -> None:
    """Raise DataError if a frame lies further before the latest time than stored frames are out of order."""
    back_s = float((latest - frame.pts) * frame.time_base)
    if back_s > max(BACK_S, REORDERED * float((frame.duration or 0) * frame.time_base)):
        raise DataError(
            f"{name}: its times go back by {back_s:.2f} s after {float((latest - first) * frame.time_base):.2f} s, as "
            "where files were joined; write it anew, for example ffmpeg -i VIDEO -c copy NEW.mp4"
        )
