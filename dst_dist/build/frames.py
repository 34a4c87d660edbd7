"""`dst-dist frames`: from video files to frames files, one row every 1 / fps seconds by the video's own clock."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dst_dist.build.rates import rate_file
from dst_dist.data.forks import in_workers
from dst_dist.data.frames import SUFFIX, open_frames, write_frames
from dst_dist.data.images import encode_jpeg
from dst_dist.data.video_files import length_s, read_container
from dst_dist.data.workers import num_cores
from dst_dist.errors import ConfigError, DataError, DstDistError
from dst_dist.files import write_whole

QUALITY = 90
"""JPEG quality of the frames."""
SHORT_S = 1.0
"""A frames file that ends so long before its video says that frames are missing."""


def make_frames(videos: Sequence[Path], out: Path, fps: float, size: int | None) -> Iterator[str]:
    """Write `<out>/<video>.arrow` for every video file, several at once, and yield a line about each.

    Row i is what the video shows i / fps seconds after its first frame. The rate and where the rows come from are
    written beside, `<video>.json`, when the rows are complete: a video that has both as asked for is left alone, so
    the same command goes on where it was stopped.

    Args:
        fps: rows a second.
        size: longer side of the frames in pixels, which keep their shape; smaller ones, and all with None, stay as
            they are.

    Raises:
        ConfigError: if a video is missing or two have one name, or without PyAV.
        DataError: with all videos that cannot be decoded; the others are written.
    """
    names = Counter(video.stem for video in videos)
    faults = [f"{video}: no such video file" for video in videos if not video.is_file()]
    faults += [
        f"{name}: several videos have this name; write them to different folders" for name in names if names[name] > 1
    ]
    if faults:
        raise ConfigError(faults)
    sizes = [video.stat().st_size for video in videos]
    broken: list[str] = []
    for line, found in in_workers(partial(_make, out, fps, size), videos, sizes, "videos decoded", num_cores()):
        broken += found
        if line:
            yield line
    if broken:
        raise DataError(broken)


def _make(out: Path, fps: float, size: int | None, video: Path) -> tuple[str, tuple[str, ...]]:
    """Return a line about one video, or its faults."""
    path = out / f"{video.stem}{SUFFIX}"
    status = video.stat()
    asked = {"fps": fps, "size": size, "source": video.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    try:
        if _is_made(path, asked):
            return f"{path}: there already", ()
        # What is beside belongs to the rows that are about to be replaced.
        rate_file(path).unlink(missing_ok=True)
        write_frames(path, (_jpeg(image, size) for image in read_container(video, fps)))
        num_rows, length = len(open_frames(str(path))), length_s(video)
        write_whole(rate_file(path), json.dumps({**asked, "num_frames": num_rows}, indent=1) + "\n")
    except DstDistError as error:
        return "", error.faults
    is_short = length is not None and num_rows / fps < length - SHORT_S
    short = f"; the video says that it lasts {length:.1f} s: its end cannot be decoded" if is_short else ""
    return f"{path}: {num_rows} frames, {num_rows / fps:.1f} s{short}", ()


def _is_made(path: Path, asked: dict[str, Any]) -> bool:
    if not (path.is_file() and rate_file(path).is_file()):
        return False
    written = json.loads(rate_file(path).read_text(encoding="utf-8"))
    return written.pop("num_frames", None) == len(open_frames(str(path))) and written == asked


def _jpeg(image: np.ndarray, size: int | None) -> bytes:
    """Return an image, uint8 [height, width, 3], as a JPEG file."""
    picture = Image.fromarray(image)
    if size is not None:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return encode_jpeg(picture, QUALITY)
