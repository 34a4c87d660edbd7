"""From a JPEG to the pixels that the model takes."""

import io
import struct

import numpy as np
from PIL import Image

MAX_PIXELS = 64_000_000
"""An image with more is refused before it is decoded."""
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def preprocess(image: Image.Image, size: int) -> np.ndarray:
    """uint8 [3, size, size], RGB: the one way from an image to the model, for training, streaming and cache.

    As stock SmolVLM2 does, Lanczos and without keeping the aspect ratio; an image of that size is taken as it is.
    """
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).transpose(2, 0, 1)


def decode_jpeg(jpeg: bytes) -> Image.Image:
    """A decoded JPEG of at most MAX_PIXELS; raises one of DECODE_ERRORS for anything else, or a part of one."""
    image = open_jpeg(jpeg)
    image.load()
    return image


def open_jpeg(jpeg: bytes) -> Image.Image:
    """Return a JPEG whose header alone was read; raises one of DECODE_ERRORS for anything else."""
    try:
        image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    except Image.UnidentifiedImageError:
        raise ValueError("not a JPEG image") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the {MAX_PIXELS} allowed")
    return image
