"""Images as the model takes them: decoding as Pillow does, stock resampling, colours, sizes."""

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from dst_dist.data import images
from dst_dist.data.frames import FrameReader
from dst_dist.data.images import DECODE_ERRORS, decode_jpeg, open_jpeg, preprocess, thumbnail, to_rgb
from tests.data.handmade import noise

SIZE = 16
MOST_APART = 2
"""Largest difference from Pillow's pixels."""


def by_pillow(image, size):
    """The pixels that Pillow's filter gives, int64."""
    return (
        np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)).transpose(2, 0, 1).astype(int)
    )


def picture(seed, size, mode="RGB"):
    """Smooth colours with some noise, of this width and height."""
    small = noise(seed, (max(1, size[0] // 9), max(1, size[1] // 9))).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(small, noise(seed + 1, size), 0.2).convert(mode)


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, options.pop("format", "JPEG"), **options)
    return file.getvalue()


def test_preprocess_is_stock_resampling():
    from transformers.image_transforms import resize
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    stock = SmolVLMImageProcessorPil()
    for size in ((40, 23), (100, 100), (7, 90)):
        image = noise(1, size)
        expected = resize(
            np.asarray(image).transpose(2, 0, 1),
            (SIZE, SIZE),
            resample=stock.resample,
            data_format="channels_first",
            input_data_format="channels_first",
        )
        result = preprocess(to_rgb(image), SIZE)
        assert result.dtype == np.uint8 and result.shape == (3, SIZE, SIZE)
        assert abs(result.astype(int) - expected).max() <= MOST_APART
        other = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert abs(result.astype(int) - other).max() > 4 * MOST_APART


@pytest.mark.parametrize("width, height", [(64, 64), (96, 60), (60, 96)])
def test_stock_resizes_twice_what_is_not_square(width, height):
    """The whole stock processor, next to its two resizings by Pillow and to ours."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    edge = {"longest_edge": 32}
    raw = {"do_image_splitting": False, "do_rescale": False, "do_normalize": False, "do_pad": False}
    processor = SmolVLMImageProcessorPil(size=edge, max_image_size=edge, **raw)
    image = picture(9, (width, height))
    stock = np.asarray(processor(image, return_tensors="np")["pixel_values"]).reshape(3, 32, 32).astype(int)
    inside = image.resize(
        (32 * width // max(width, height), 32 * height // max(width, height)), Image.Resampling.LANCZOS
    )
    np.testing.assert_array_equal(stock, by_pillow(inside, 32))
    apart = abs(preprocess(to_rgb(image), 32) - stock)
    assert (apart.max() <= MOST_APART) == (width == height) and apart.max() <= 60


SIDES = (1, 2, 15, 16, 17, 31, 47, 200, 333)


@pytest.mark.parametrize("size", [16, 48])
@pytest.mark.parametrize("torch_resizes", [True, False])
def test_pixels_are_those_of_pillow(size, torch_resizes, monkeypatch):
    """Up and down, even and odd, wide and high; black next to white, where the filter swings furthest."""
    if torch_resizes and not images.TORCH_RESIZES:
        pytest.skip("this torch has no Lanczos filter")
    monkeypatch.setattr(images, "TORCH_RESIZES", torch_resizes)
    apart = []
    for width, height in itertools.product(SIDES, SIDES):
        for image in (picture(3, (width, height)), noise(4, (width, height)).convert("1", dither=0)):
            pixels = preprocess(to_rgb(image), size)
            apart.append(abs(pixels.astype(int) - by_pillow(image, size)))
            assert apart[-1].max() <= (MOST_APART if torch_resizes else 0), (width, height)
    assert np.mean([one.mean() for one in apart]) <= 0.05


@pytest.mark.parametrize("width, height", [(384, 384), (640, 480), (480, 640), (641, 479), (1280, 720), (320, 180)])
def test_pixels_of_a_video_are_those_of_pillow(width, height):
    image = picture(5, (width, height))
    apart = abs(preprocess(to_rgb(image), 384).astype(int) - by_pillow(image, 384))
    assert apart.max() <= MOST_APART and apart.mean() <= 0.02


def test_an_image_of_the_right_size_is_taken_as_it_is():
    image = noise(2, (SIZE, SIZE))
    np.testing.assert_array_equal(preprocess(to_rgb(image), SIZE), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("torch_resizes", [True, False])
@pytest.mark.parametrize("size", [(SIZE, SIZE), (40, 23), (23, 90)])
def test_frames_are_copied_without_being_rearranged(size, torch_resizes, monkeypatch):
    """A data worker copies every frame into its micro-batch: the same order on both sides makes it one piece."""
    monkeypatch.setattr(images, "TORCH_RESIZES", torch_resizes and images.TORCH_RESIZES)
    room = FrameReader(SIZE).empty(3)
    assert all(one.numpy().transpose(1, 2, 0).flags.c_contiguous for one in room.split(1)[1])
    assert preprocess(to_rgb(noise(2, size)), SIZE).transpose(1, 2, 0).flags.c_contiguous


def test_preprocess_keeps_channels_and_axes_apart():
    image = Image.new("RGB", (2, 2))
    image.putpixel((1, 0), (10, 20, 30))  # x 1, y 0
    assert preprocess(to_rgb(image), 2)[:, 0, 1].tolist() == [10, 20, 30]
    assert preprocess(to_rgb(image), 2)[:, 1, 0].tolist() == [0, 0, 0]
    large = preprocess(to_rgb(image.resize((60, 60), Image.Resampling.NEAREST)), SIZE)
    assert large[:, 2, 13].tolist() == [10, 20, 30] and not large[:, 13, 2].any()


def test_large_jpegs_are_decoded_in_full_and_then_resized():
    """Decoding at a fraction of the size (PIL's draft mode) is quicker and another picture."""
    image = noise(3, (256, 256))
    expected = by_pillow(Image.open(io.BytesIO(encoded(image, quality=90))), SIZE)
    pixels = preprocess(decode_jpeg(encoded(image, quality=90)), SIZE)
    assert abs(pixels.astype(int) - expected).max() <= MOST_APART


def pillow_alone(jpeg):
    image = open_jpeg(jpeg)
    image.load()
    return to_rgb(image)


def verdict(decode, jpeg):
    """The pixels, or None if the JPEG is refused."""
    try:
        return decode(jpeg)
    except DECODE_ERRORS:
        return None


KINDS = {
    "plain": {"quality": 90},
    "progressive": {"quality": 60, "progressive": True},
    "no subsampling": {"quality": 95, "subsampling": 0},
    "half subsampling": {"quality": 75, "subsampling": 1},
    "restarts": {"quality": 80, "restart_marker_rows": 1},
    # Tables with values above 255, which take 16 bits.
    "16-bit tables": {"qtables": [[300 + value for value in range(64)]] * 2},
    "rgb": {"quality": 85, "keep_rgb": True},
}


def damaged(jpeg, rng):
    """Yield the file, and the file cut, longer, and damaged in header and body."""
    yield jpeg
    yield jpeg + b"more"
    yield from (jpeg[:-1], jpeg[:-2])
    for _ in range(12):
        at, length = (int(number) for number in rng.integers((2, 1), (len(jpeg) - 2, 20)))
        yield jpeg[:at]
        yield jpeg[:at] + jpeg[at + length :]
        yield jpeg[:at] + bytes(length) + jpeg[at + length :]
        yield jpeg[:at] + b"\xff\xd9" + jpeg[at:]
        changed = np.frombuffer(jpeg, np.uint8).copy()
        changed[rng.integers(0, min(len(jpeg), (700, len(jpeg))[length % 2]), 3)] = rng.integers(0, 256, 3)
        yield changed.tobytes()


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "MPO"])
def test_every_file_whole_or_damaged_is_decoded_or_refused_as_by_pillow_alone(mode):
    rng, num_decoded, num_refused = np.random.default_rng(0), 0, 0
    kinds = {"plain": KINDS["plain"] | {"format": "MPO", "save_all": True}} if mode == "MPO" else KINDS
    for kind, options in kinds.items():
        more = {"append_images": [picture(8, (70, 53))]} if mode == "MPO" else {}
        whole = encoded(picture(6, (70, 53), "RGB" if mode == "MPO" else mode), **options, **more)
        assert verdict(decode_jpeg, whole) is not None, kind
        for jpeg in damaged(whole, rng):
            expected, found = verdict(pillow_alone, jpeg), verdict(decode_jpeg, jpeg)
            assert (found is None) == (expected is None), kind
            if found is None:
                num_refused += 1
            else:
                num_decoded += 1
                np.testing.assert_array_equal(found, expected, kind)
    assert num_decoded > 20 and num_refused > 5


def test_plain_files_are_not_decoded_by_pillow(monkeypatch):
    monkeypatch.setattr(images, "to_rgb", None)
    for mode in ("RGB", "L"):
        assert decode_jpeg(encoded(picture(7, (40, 30), mode))).shape == (30, 40, 3)


def test_the_name_of_the_way_to_pixels_says_which_filter_is_used():
    expected = "simplejpeg+lanczos-2" if images.TORCH_RESIZES else "simplejpeg+pillow-2"
    assert expected == images.PIXELS_VERSION


@pytest.mark.parametrize("width, height, small", [(64, 32, (32, 16)), (32, 64, (8, 16)), (20, 10, (20, 10))])
def test_a_thumbnail_keeps_the_aspect_ratio_and_is_never_larger(width, height, small):
    text, aspect = thumbnail(np.full((height, width, 3), 90, np.uint8), (32, 16), 60)
    image = decode_jpeg(base64.b64decode(text))
    assert image.shape == (small[1], small[0], 3) and aspect == width / height
    assert abs(image.astype(int) - 90).max() <= 2
