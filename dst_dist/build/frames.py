"""`dst-dist frames`: from video files to frames files, one row every 1 / fps seconds by the video's own clock."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dst_dist.build.rates import rate_file
from dst_dist.data.forks import in_workers
from dst_dist.data.frames import SUFFIX, open_frames, write_rows
from dst_dist.data.images import encode_jpeg
from dst_dist.data.video_files import Stated, read_container, stated
from dst_dist.data.workers import num_cores
from dst_dist.errors import ConfigError, DataError, DstDistError
from dst_dist.file_system import WRITES, try_folder
from dst_dist.files import flush, new_word, remove_leftovers, replacing

QUALITY = 90
"""JPEG quality of the frames."""
SHORT_S = 1.0
"""A frames file that ends so long before its video says that frames are missing."""
WRITTEN = {"fps", "size", "source", "bytes", "modified_ns", "num_frames"}
"""Keys of the rate file that is written beside rows. A file without one of them is somebody else's."""


def make_frames(videos: Sequence[Path], out: Path, fps: float, size: int | None) -> Iterator[str]:
    """Write `<out>/<video>.arrow` for every video file, several at once, and yield a line about each.

    Row i is what the video shows i / fps seconds after its first frame. The rate and where the rows come from are
    written beside, `<video>.json`: a video that has both as asked for is left alone, so the same command goes on where
    it was stopped.

    Args:
        fps: rows a second.
        size: longer side of the frames in pixels, which keep their shape; smaller ones, and all with None, stay as
            they are.

    Raises:
        ConfigError: if a video is missing, two have one name, a file that this did not write is in the way, or `out`
            cannot be written; or without PyAV.
        DataError: with all videos that cannot be decoded or written; the others are written.
    """
    videos = list({(video.name, os.path.realpath(video)): video for video in videos}.values())
    paths = [out / f"{video.stem}{SUFFIX}" for video in videos]
    if faults := _faults(videos, paths):
        raise ConfigError(faults)
    yield from (f"{out}: {clause}" for clause in try_folder("--out", out, WRITES))
    word, names = new_word(), {file.name for path in paths for file in (path, rate_file(path))}
    remove_leftovers(out, names, word)
    sizes = [video.stat().st_size for video in videos]
    make = partial(_make, out, fps, size, word)
    broken: list[str] = []
    try:
        with closing(in_workers(make, videos, sizes, "videos decoded", num_cores())) as made:
            for line, found in made:
                broken += found
                if line:
                    yield line
    finally:
        # Workers are killed when this process ends early.
        remove_leftovers(out, names, word)
    if broken:
        raise DataError(broken)


def _faults(videos: Sequence[Path], paths: Sequence[Path]) -> list[str]:
    """Return what can be said before anything is decoded."""
    names = Counter(video.stem for video in videos)
    faults = [f"{video}: no such video file" for video in videos if not video.is_file()]
    faults += [
        f"{name}: several videos have this name; write them to different folders" for name in names if names[name] > 1
    ]
    for path in dict.fromkeys(paths):
        there = [str(file) for file in (path, rate_file(path)) if os.path.lexists(file)]
        if there and _read_written(path) is None:
            what = f"{' and '.join(there)}: not written by `dst-dist frames`, or not all of it"
            faults.append(f"{what}; move this away, or name another --out")
    return faults


def _read_written(path: Path) -> dict[str, Any] | None:
    """Return what `_write` wrote beside rows; None for any other file and for none."""
    try:
        written = json.loads(rate_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return written if isinstance(written, dict) and written.keys() >= WRITTEN else None


def _make(out: Path, fps: float, size: int | None, word: str, video: Path) -> tuple[str, tuple[str, ...]]:
    """Return a line about one video, or its faults."""
    path = out / f"{video.stem}{SUFFIX}"
    try:
        status, says = video.stat(), stated(video)
        source = {"source": video.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        asked = {"fps": fps, "size": size, **source}
        num_rows, what = _num_made(path, asked), "there already"
        if num_rows is None:
            num_rows = _write(path, word, asked, (_jpeg(image, size) for image in read_container(video, fps)))
            what = f"{num_rows} frames, {num_rows / fps:.1f} s"
    except DstDistError as error:
        return "", error.faults
    except OSError as error:
        return "", (f"{path}: cannot be written: {error}; make room, or name another --out",)
    return f"{path}: {'; '.join([what, *_notes(says, num_rows / fps)])}", ()


def _num_made(path: Path, asked: dict[str, Any]) -> int | None:
    """Return the number of rows that are there as asked for; None if they have to be made."""
    written = _read_written(path)
    if written is None or not path.is_file():
        return None
    try:
        num_rows = len(open_frames(str(path)))
    except DataError:
        return None
    return num_rows if written == {**asked, "num_frames": num_rows} else None


def _write(path: Path, word: str, asked: dict[str, Any], jpegs: Iterable[bytes]) -> int:
    """Write rows and their rate, and return the number of rows.

    The old rows go before the rate is replaced, and the new ones come after it: however this ends, rows never stand
    beside another's rate, nor without one.
    """
    with replacing(path, word) as rows, replacing(rate_file(path), word) as rate:
        write_rows(rows, jpegs)
        num_rows = len(open_frames(str(rows)))
        rate.write_text(json.dumps({**asked, "num_frames": num_rows}, indent=1) + "\n", encoding="utf-8")
        # A full disk is found out while the old rows are there.
        flush(rows)
        flush(rate)
        path.unlink(missing_ok=True)
    return num_rows


def _notes(says: Stated, rows_s: float) -> list[str]:
    """Return what a user should know of a video, whether its rows were made now or before."""
    notes = []
    if says.length_s is not None and rows_s < says.length_s - SHORT_S:
        notes.append(f"the video says that it lasts {says.length_s:.1f} s: its end cannot be decoded")
    if says.pixel_shape != 1:
        look = "narrow" if says.pixel_shape > 1 else "wide"
        notes.append(
            f"its pixels are shown {float(says.pixel_shape):.4g} times as wide as high: its frames look too {look}"
        )
    return notes


def _jpeg(image: np.ndarray, size: int | None) -> bytes:
    """Return an image, uint8 [height, width, 3], as a JPEG file."""
    picture = Image.fromarray(image)
    if size is not None:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return encode_jpeg(picture, QUALITY)
