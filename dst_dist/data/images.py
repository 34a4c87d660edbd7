"""Decodes JPEG files and turns images into the pixels that the model takes."""

import base64
import io
import struct
from contextlib import suppress

import numpy as np
import simplejpeg
import torch
from PIL import ExifTags, Image

from dst_dist.data.jpeg_header import MAX_PIXELS, plain_header

DECODE_ERRORS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""Errors that PIL raises for damaged images of any format."""
TORCH_RESIZES = hasattr(torch.ops.aten, "_upsample_lanczos2d_aa")
"""Whether this torch has Lanczos with antialiasing (2.13 or newer); without it Pillow resizes, which is slower."""
PIXELS_VERSION = "simplejpeg+lanczos-2" if TORCH_RESIZES else "simplejpeg+pillow-2"
"""Name of the way from a JPEG file to pixels, kept with everything made from pixels. The two ways differ by up to 2."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition for each orientation tag (EXIF 2.3, tag 274) but 1, which leaves a picture as it is."""


def preprocess(image: np.ndarray, size: int) -> np.ndarray:
    """Return RGB pixels as the model takes them; training and streaming both use this function.

    The image is resized once, by Lanczos with antialiasing, to a square: its aspect ratio is not kept. The filter is
    that of stock SmolVLM2, within 2 of Pillow 13. But stock resizes twice, to the longest edge and then to the square:
    if an image is not square, its pixels differ from these by up to 18, by 1 in the mean.

    Args:
        image: uint8 [height, width, 3].

    Returns:
        uint8 [3, size, size], possibly a view of the image. In memory the three values of a pixel are together, as the
        decoder writes them: a copy in that order is one piece, and takes a tenth of the time.
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
    return np.stack(tuple(_lanczos(planes, size, size)[0].numpy()), axis=-1).transpose(2, 0, 1)


def _lanczos(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return planes, uint8 [1, 3, H, W], in another size; the rows are filtered first, then the columns."""
    return torch.nn.functional.interpolate(planes, (height, width), mode="lanczos", antialias=True)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Return an image of any mode as RGB, uint8 [height, width, 3]. Raises one of DECODE_ERRORS if it is damaged."""
    return np.array(image.convert("RGB"))


def decode_image(content: bytes) -> np.ndarray:
    """Return a JPEG or PNG file as RGB, uint8 [height, width, 3], turned as its orientation tag says.

    Raises one of DECODE_ERRORS if it is neither, damaged, above MAX_PIXELS, or has more than 8 bits a channel.
    """
    if not content.startswith(PNG_SIGNATURE):
        return decode_jpeg(content)
    image = _checked_size(Image.open(io.BytesIO(content), formats=("PNG",)))
    if image.mode.startswith(("I", "F")):
        raise ValueError("more than 8 bits a channel, which would be cut off to white; write it with 8")
    # A PNG may have its tags behind the picture; reading them reads it whole.
    return _turned(to_rgb(image), _turn_of(image))


def decode_jpeg(jpeg: bytes) -> np.ndarray:
    """Return a JPEG as RGB, uint8 [height, width, 3], turned as its orientation tag says.

    Raises one of DECODE_ERRORS if it is none, cut off, or above MAX_PIXELS. Pillow is the judge: what libjpeg-turbo
    complains about goes to it, and so does CMYK, which the two round differently. All pixels are Pillow's.
    """
    stored = _by_turbo(jpeg) if plain_header(jpeg) else None
    if stored is not None:
        # Pillow would open it, and it has no tags.
        return stored
    image = open_jpeg(jpeg)
    turn = _turn_of(image)
    if image.mode in ("RGB", "L"):
        stored = _by_turbo(jpeg)
    return _turned(to_rgb(image) if stored is None else stored, turn)


def _by_turbo(jpeg: bytes) -> np.ndarray | None:
    """Return a JPEG's pixels as they are stored, None if libjpeg-turbo complains."""
    # Strict by default: a warning is a ValueError.
    with suppress(ValueError):
        return simplejpeg.decode_jpeg(jpeg)
    return None


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition of a picture: cameras store it as the sensor is held, with a tag in EXIF or XMP.

    None if there is no such tag, or it cannot be read.
    """
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except (*DECODE_ERRORS, LookupError, TypeError):
        return None


def _turned(pixels: np.ndarray, turn: Image.Transpose | None) -> np.ndarray:
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def thumbnail(pixels: np.ndarray, most: tuple[int, int], quality: int) -> tuple[str, float]:
    """Return a small JPEG of RGB pixels [height, width, 3] as base64, and its width divided by its height.

    Args:
        most: largest width and height, in pixels.
        quality: of JPEG, up to 95.
    """
    image = Image.fromarray(pixels)
    image.thumbnail(most)
    jpeg = encode_jpeg(image, quality, optimize=True)
    return base64.b64encode(jpeg).decode("ascii"), round(image.width / image.height, 3)


def encode_jpeg(image: Image.Image, quality: int, optimize: bool = False) -> bytes:
    """Return an image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=optimize)
    return buffer.getvalue()


def open_jpeg(jpeg: bytes) -> Image.Image:
    """Return a JPEG after reading its header only. Raises one of DECODE_ERRORS if it is none, or above MAX_PIXELS."""
    try:
        return _checked_size(Image.open(io.BytesIO(jpeg), formats=("JPEG",)))
    except Image.UnidentifiedImageError:
        raise ValueError("not a JPEG image") from None


def _checked_size(image: Image.Image) -> Image.Image:
    """Return an image whose size is allowed. Raises ValueError if it is above MAX_PIXELS."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the {MAX_PIXELS} allowed")
    return image
