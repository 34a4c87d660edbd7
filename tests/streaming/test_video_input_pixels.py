"""Streaming and training see the same pixels."""

import numpy as np
import torch

from dst_dist.data.frames import FrameReader, write_frames
from dst_dist.streaming.video_input import read_video
from tests.data.handmade import noisy_jpeg

SIZE = 24


def test_a_folder_and_a_frames_file_give_the_pixels_of_training(tmp_path):
    jpeg = noisy_jpeg(tmp_path / "1.jpg")
    write_frames(tmp_path / "v.arrow", [jpeg])
    trained = torch.empty(1, 3, SIZE, SIZE, dtype=torch.uint8)
    assert FrameReader(SIZE).read(str(tmp_path / "v.arrow"), [0], trained).all()
    for path in (tmp_path, tmp_path / "v.arrow"):
        np.testing.assert_array_equal(list(read_video(path, 2.0, SIZE)), trained)
