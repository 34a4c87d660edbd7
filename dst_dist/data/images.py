"""Decodes JPEG files and turns images into the pixels that the model takes."""

import io
import struct
from contextlib import suppress

import numpy as np
import simplejpeg
import torch
from PIL import Image

MAX_PIXELS = 64_000_000
"""Largest image that is decoded."""
DECODE_ERRORS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""Errors that PIL raises for damaged images of any format."""
TORCH_RESIZES = hasattr(torch.ops.aten, "_upsample_lanczos2d_aa")
"""Whether this torch has Lanczos with antialiasing (2.13 or newer); without it Pillow resizes, which is slower."""
PIXELS_VERSION = "simplejpeg+lanczos-1" if TORCH_RESIZES else "simplejpeg+pillow-1"
"""Names the way from a JPEG file to pixels; what is made from pixels and kept is compared by it. Ways differ by 2."""


def preprocess(image: np.ndarray, size: int) -> np.ndarray:
    """Return RGB pixels as the model takes them; training and streaming both use this function.

    The image is resized once, by Lanczos with antialiasing, to a square: its aspect ratio is not kept. The filter is
    that of stock SmolVLM2, within 2 of Pillow 13. But stock resizes twice, to the longest edge and then to the square:
    if an image is not square, its pixels differ from these by up to 18, by 1 in the mean.

    Args:
        image: uint8 [height, width, 3].

    Returns:
        uint8 [3, size, size], possibly a view of the image.
    """
    height, width = image.shape[:2]
    if height == width == size:
        return image.transpose(2, 0, 1)
    if not TORCH_RESIZES:
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    if height - size > 2 * max(width - size, 0):
        # Pillow 13's order for high images. Each pass rounds, and clips what swings beyond black and white.
        planes = _lanczos(planes, size, width)
    return _lanczos(planes, size, size)[0].numpy()


def _lanczos(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return planes, uint8 [1, 3, H, W], in another size; the rows are filtered first, then the columns."""
    return torch.nn.functional.interpolate(planes, (height, width), mode="lanczos", antialias=True)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Return an image of any mode as RGB, uint8 [height, width, 3]. Raises one of DECODE_ERRORS if it is damaged."""
    return np.array(image.convert("RGB"))


def decode_jpeg(jpeg: bytes) -> np.ndarray:
    """Return a JPEG as RGB, uint8 [height, width, 3].

    Raises one of DECODE_ERRORS if it is none, cut off, or above MAX_PIXELS. Pillow is the judge: what libjpeg-turbo
    complains about goes to it, and so does CMYK, which the two round differently. All pixels are Pillow's.
    """
    image = open_jpeg(jpeg)
    if image.mode in ("RGB", "L"):
        # Strict by default: a warning is a ValueError.
        with suppress(ValueError):
            return simplejpeg.decode_jpeg(jpeg)
    return to_rgb(image)


def open_jpeg(jpeg: bytes) -> Image.Image:
    """Return a JPEG after reading its header only. Raises one of DECODE_ERRORS if it is none, or above MAX_PIXELS."""
    try:
        image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    except Image.UnidentifiedImageError:
        raise ValueError("not a JPEG image") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the {MAX_PIXELS} allowed")
    return image
