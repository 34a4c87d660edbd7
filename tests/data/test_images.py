"""Images as the model takes them: stock resampling, colours, sizes."""

import numpy as np
from PIL import Image

from dst_dist.data.images import decode_jpeg, preprocess
from tests.data.handmade import noise

SIZE = 16


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
        result = preprocess(image, SIZE)
        assert result.dtype == np.uint8 and result.shape == (3, SIZE, SIZE)
        np.testing.assert_array_equal(result, expected)
        assert (result != np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).transpose(2, 0, 1)).any()


def test_an_image_of_the_right_size_is_taken_as_it_is():
    image = noise(2, (SIZE, SIZE))
    np.testing.assert_array_equal(preprocess(image, SIZE), np.asarray(image).transpose(2, 0, 1))


def test_preprocess_keeps_channels_and_axes_apart():
    image = Image.new("RGB", (2, 2))
    image.putpixel((1, 0), (10, 20, 30))  # x 1, y 0
    assert preprocess(image, 2)[:, 0, 1].tolist() == [10, 20, 30]
    assert preprocess(image, 2)[:, 1, 0].tolist() == [0, 0, 0]


def test_large_jpegs_are_decoded_in_full_and_then_resized(tmp_path):
    """PIL's draft mode would decode at a fraction of the size, which is quicker and another picture."""
    image = noise(3, (256, 256))
    image.save(tmp_path / "x.jpg", quality=90)
    file = (tmp_path / "x.jpg").read_bytes()
    expected = np.asarray(Image.open(tmp_path / "x.jpg").convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(preprocess(decode_jpeg(file), SIZE), expected.transpose(2, 0, 1))
