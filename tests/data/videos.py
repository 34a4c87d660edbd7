"""Video files written for a test."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
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
    pixel_shape: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    sound_s: float = 0,
    tick: Fraction = Fraction(1, 1000),
) -> None:
    """Write a picture of each shade, shown at its time, with silence; skips the test without PyAV.

    Args:
        tick: seconds, of which a time is a multiple; MPEG-2 knows only that of its frame rate, 1/25.
    """
    av = pytest.importorskip("av", reason="PyAV is not installed; pip install 'dst-dist[video]'")
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        stream.codec_context.time_base = stream.time_base = tick
        sound = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000) if sound_s else None
        for shade, at in zip(shades, times_ms, strict=True):
            frame = av.VideoFrame.from_image(picture_of(shade, size))
            frame.pts, frame.time_base = round(at / 1000 / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for number in range(round(sound_s * 50)):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 48000, number * 960, Fraction(1, 48000)
                container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
