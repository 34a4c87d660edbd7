"""Frames files with one thing wrong."""

import pyarrow as pa
import pytest

from dst_dist.data.frames import write_frames
from tests.data.bad_data import FRAMES, check_fault, text
from tests.data.handmade import jpeg, video, write_base64, write_column


def arrow(write, *content, **how):
    return lambda root: write(root / FRAMES, *content, **how)


def cut(root):
    path = root / FRAMES
    path.write_bytes(path.read_bytes()[:-600])


FRAME_FILES = {
    "fewer rows than frames": (
        arrow(write_base64, video(9)),
        ("clip kitchen/tea/0", f"1 of 8 frames in {FRAMES}", "frame 9: the file has 9 rows"),
    ),
    "no rows": (arrow(write_frames, []), ("clip kitchen/tea/0", "8 of 8 frames", "frame 2: the file has 0 rows")),
    "arrow cut off": (cut, ("clip kitchen/tea/0", "8 of 8 frames", "cannot be read as Arrow", "copy it again")),
    "empty arrow": (text(FRAMES, ""), ("clip kitchen/tea/0", "8 of 8 frames", "cannot be read as Arrow")),
    "no arrow": (text(FRAMES, "x" * 99), ("clip kitchen/tea/0", "8 of 8 frames", "cannot be read as Arrow")),
    "no column frame": (
        arrow(write_column, "image", [pa.array(video(12))]),
        ("clip kitchen/tea/0", "8 of 8 frames", "no column `frame`, but image"),
    ),
    "column of numbers": (
        arrow(write_column, "frame", [pa.array(range(12))]),
        ("clip kitchen/tea/0", "base64 strings or JPEG bytes, not int64"),
    ),
    "row is null": (
        arrow(write_base64, [*video(4), None, *video(7)]),
        ("clip kitchen/tea/0", "1 of 8 frames", "frame 4: the row is null"),
    ),
    "row is no JPEG": (
        arrow(write_frames, [*video(4), b"GIF89a", *video(7)]),
        ("clip kitchen/tea/0", "1 of 8 frames", "frame 4: not a JPEG image"),
    ),
    "row is no base64": (
        arrow(write_column, "frame", [pa.array(["*" * 40] * 12)]),
        ("clip kitchen/tea/0", "8 of 8 frames", "frame 2"),
    ),
    "row is empty": (
        arrow(write_frames, [*video(9), b"", *video(2)]),
        ("clip kitchen/tea/0", "1 of 8 frames", "frame 9: the row is empty"),
    ),
    "image too large": (
        arrow(write_frames, [*video(9), jpeg(0, (8001, 8000)), *video(2)]),
        ("clip kitchen/tea/0", "frame 9: 8001 x 8000 pixels, more than the 64000000 allowed"),
    ),
}


@pytest.mark.parametrize("case", FRAME_FILES)
def test_wrong_frames_file(tmp_path, case):
    check_fault(tmp_path / "root", *FRAME_FILES[case])
