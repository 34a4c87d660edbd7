"""Video files written for a test."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image


def grey(value: int, size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def write_video(
    path: Path,
    shades: Sequence[int],
    times_ms: Sequence[int],
    size: tuple[int, int] = (64, 48),
    picture_of: Callable[[int, tuple[int, int]], Image.Image] = grey,
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
) -> None:
    """Write a picture of each shade, shown at its time; skips the test without PyAV."""
    av = pytest.importorskip("av", reason="PyAV is not installed; pip install 'dst-dist[video]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for shade, at in zip(shades, times_ms, strict=True):
            frame = av.VideoFrame.from_image(picture_of(shade, size))
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
