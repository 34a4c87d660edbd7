"""`python -m tests.benchmarks.decode_speed [--repeats 15] [--size 384]`: a JPEG file to pixels of the tower's square.

Interleaved, one frame at a time, medians: as now, by Pillow alone (as before), and by stock's processors; its fast one
is left out where torchvision is missing. Prints frames a second as now, and how many times as fast that is as each.
"""

import argparse
import importlib.util
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from dst_dist.data.frames import FrameReader
from dst_dist.data.images import decode_jpeg, open_jpeg, preprocess

SOURCES = ((384, 384), (640, 480), (1280, 720), (1920, 1080))


def make_jpeg(width: int, height: int) -> bytes:
    """Return a file of about the size that a video's frame has: smooth shapes with some noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int64)
    file = io.BytesIO()
    noisy = np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, "JPEG", quality=85)
    return file.getvalue()


def by_pillow(jpeg: bytes, size: int) -> np.ndarray:
    image = open_jpeg(jpeg)
    image.load()
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


def by_stock(processor_class: type, size: int) -> Callable[[bytes, int], np.ndarray]:
    """Return stock's way to bytes, without the scaling to floats that we leave to the model."""
    processor = processor_class(
        size={"longest_edge": size},
        max_image_size={"longest_edge": size},
        do_image_splitting=False,
        do_rescale=False,
        do_normalize=False,
        do_pad=False,
    )

    def decode(jpeg: bytes, _: int) -> np.ndarray:
        return np.asarray(processor(Image.open(io.BytesIO(jpeg)), return_tensors="np")["pixel_values"]).reshape(
            3, size, size
        )

    return decode


def ways(size: int) -> dict[str, Callable[[bytes, int], np.ndarray]]:
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    found = {
        "now": lambda jpeg, size: preprocess(decode_jpeg(jpeg), size),
        "Pillow, as before": by_pillow,
        "stock, Pillow": by_stock(SmolVLMImageProcessorPil, size),
    }
    if importlib.util.find_spec("torchvision") is not None:
        from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor

        found["stock, fast"] = by_stock(SmolVLMImageProcessor, size)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--size", type=int, default=384)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, square = ways(options.size), (options.size, options.size)
    room = {name: np.empty((3, *square), np.uint8) for name in found}
    room["now"] = FrameReader(options.size).empty(1)[0].numpy()
    others = [name for name in found if name != "now"]
    print(f"| source | now, frames/s | {' | '.join(f'times {name}' for name in others)} | largest, mean difference |")
    print("|---|---|---|" + "---|" * len(others))
    for width, height in SOURCES:
        jpeg = make_jpeg(width, height)
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(options.repeats + 1):
            for name, way in found.items():
                started = time.perf_counter()
                room[name][...] = way(jpeg, options.size)
                times[name].append(time.perf_counter() - started)
        taken = {name: statistics.median(of_way[1:]) for name, of_way in times.items()}
        ratios = " | ".join(f"{taken[name] / taken['now']:.2f}" for name in others)
        apart = abs(found["now"](jpeg, options.size).astype(int) - by_pillow(jpeg, options.size))
        print(f"| {width} x {height} | {1 / taken['now']:.0f} | {ratios} | {apart.max()}, {apart.mean():.3f} |")


if __name__ == "__main__":
    main()
