"""Decodes JPEG files and turns images into the pixels that the model takes."""

import io
import struct

import numpy as np
from PIL import Image

PIXELS_VERSION = "pillow-lanczos-1"
"""Changes whenever the pixels of a frame change; kept features were made from the pixels of one version."""
MAX_PIXELS = 64_000_000
"""Largest image that is decoded."""
DECODE_ERRORS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""Errors that PIL raises for damaged images of any format."""


def preprocess(image: Image.Image, size: int) -> np.ndarray:
    """Return an image as RGB, uint8 [3, size, size]; training and streaming both use this function.

    It is resized as stock SmolVLM2 does, with Lanczos and without keeping the aspect ratio.
    """
    image = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).transpose(2, 0, 1)


def decode_jpeg(jpeg: bytes) -> Image.Image:
    """Return a decoded JPEG. Raises one of DECODE_ERRORS if it is none, cut off, or above MAX_PIXELS."""
    image = open_jpeg(jpeg)
    image.load()
    return image


def open_jpeg(jpeg: bytes) -> Image.Image:
    """Return a JPEG after reading its header only. Raises one of DECODE_ERRORS if it is none, or above MAX_PIXELS."""
    try:
        image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    except Image.UnidentifiedImageError:
        raise ValueError("not a JPEG image") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the {MAX_PIXELS} allowed")
    return image
