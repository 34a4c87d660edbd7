"""Plain headers are recognised, and never one that Pillow would refuse."""

import io
import random

import pytest
from PIL import Image

from dst_dist.data.images import DECODE_ERRORS, open_jpeg
from dst_dist.data.jpeg_header import plain_header
from tests.data.handmade import noise

WAYS = {
    "plain": {},
    "low quality": {"quality": 5},
    "progressive": {"progressive": True},
    "own tables": {"optimize": True},
    "no subsampling": {"subsampling": 0},
    "comment": {"comment": b"made by hand"},
    "restarts": {"restart_marker_rows": 1},
}
RARE = {"exif": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}, "profile": {"icc_profile": b"p" * 300}}


def encoded(mode="RGB", size=(40, 24), **how):
    buffer = io.BytesIO()
    noise(1, size).convert(mode).save(buffer, "JPEG", **how)
    return buffer.getvalue()


@pytest.mark.parametrize("way", WAYS)
def test_what_encoders_write_is_plain(way):
    for mode in ("RGB", "L"):
        assert plain_header(encoded(mode, **WAYS[way])), mode


@pytest.mark.parametrize("way", RARE)
def test_what_is_rare_is_left_to_pillow(way):
    image = encoded(**RARE[way])
    open_jpeg(image)
    assert not plain_header(image)


def test_other_files_are_not_plain():
    for other in (b"", b"\xff\xd8", b"GIF89a", encoded()[1:], encoded("CMYK"), b"\xff\xd8" * 50):
        assert not plain_header(other)


def test_a_size_that_is_not_decoded_is_not_plain():
    image = bytearray(encoded())
    place = image.index(b"\xff\xc0") + 5
    for height, width in ((0, 40), (24, 0), (8001, 8000)):
        image[place : place + 4] = height.to_bytes(2) + width.to_bytes(2)
        assert not plain_header(bytes(image)), (height, width)
    image[place : place + 4] = (8000).to_bytes(2) * 2
    assert plain_header(bytes(image))


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_damaged_what_is_called_plain_opens_with_pillow(way):
    """Bytes changed, left out, added and cut off at random: 1,500 headers a way."""
    whole = encoded(**WAYS[way])
    end = whole.index(b"\xff\xda") + 14
    rng, num_plain, num_refused = random.Random(0), 0, 0
    for _ in range(1500):
        image = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(min(end, len(image)) or 1)
            change = rng.random()
            if change < 0.7:
                image[place : place + 1] = bytes(
                    [rng.choice((0, 1, 8, 0xC0, 0xD8, 0xDA, 0xDB, 0xE0, 0xFF, rng.randrange(256)))]
                )
            elif change < 0.8:
                del image[place : place + rng.randrange(1, 20)]
            elif change < 0.9:
                image[place:place] = rng.randbytes(rng.randrange(1, 20))
            else:
                del image[place:]
        try:
            open_jpeg(bytes(image))
            opens = True
        except DECODE_ERRORS:
            opens = False
        num_refused += not opens
        if header := plain_header(bytes(image)):
            num_plain += 1
            assert opens and image.startswith(header)
            # The header alone decides, so other rows with the same one need no look.
            assert plain_header(header + rng.randbytes(20)) == header
    assert num_plain > 50 and num_refused > 200


def test_a_header_that_pillow_reads_only_in_part_is_not_plain():
    """The header ends with the start of the scan; a row cut before it is damaged."""
    image = encoded()
    end = image.index(b"\xff\xda") + 14
    assert plain_header(image[:end]) and not plain_header(image[: end - 1])
    with pytest.raises(DECODE_ERRORS):
        Image.open(io.BytesIO(image[: end - 20]))
