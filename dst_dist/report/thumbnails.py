"""Small pictures of the frames, within what the page may weigh."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from dst_dist.data.frames import ArrowFrames, open_frames
from dst_dist.data.images import DECODE_ERRORS, decode_jpeg
from dst_dist.errors import DataError

MOST_OF_A_CLIP = 32
SIZE = (112, 56)
QUALITY = 60
USUAL_BYTES = 2500
"""As base64; most take less."""


def add_thumbnails(clips: Sequence[dict[str, Any]], room: int) -> list[str]:
    """Give each clip `thumbnails`, pairs (absolute frame, base64 JPEG), evenly spaced, with their `aspect` (width by height),
    and take away its `frames_path`.

    Args:
        room: bytes that all may take together.

    Returns:
        What is to be said of the frames that are not shown.
    """
    share = min(MOST_OF_A_CLIP, max(1, room // (USUAL_BYTES * max(1, len(clips)))))
    without_file, unreadable, for_lack_of_room, shortened = 0, 0, 0, 0
    for clip in tqdm(clips, "thumbnails", leave=False, disable=None):
        wanted = np.unique(np.linspace(clip["start"], clip["end"] - 1, share).round().astype(int)).tolist()
        shortened += len(wanted) < clip["end"] - clip["start"]
        clip["thumbnails"] = []
        file = _open(clip.pop("frames_path"))
        without_file += file is None
        for frame in wanted if file else []:
            picture, aspect = _thumbnail(file, frame)
            unreadable += picture is None
            if picture and len(picture) + 20 > room:
                for_lack_of_room += 1
            elif picture:
                room -= len(picture) + 20
                clip["thumbnails"].append((frame, picture))
                clip.setdefault("aspect", aspect)
    notes = {
        f"{without_file} of {len(clips)} clips are without pictures: their frames files could not be opened here.": without_file,
        f"{unreadable} frames could not be read.": unreadable,
        f"{shortened} of {len(clips)} clips show {share} of their frames, evenly spaced.": shortened,
        f"{for_lack_of_room} pictures were left out to keep this file small.": for_lack_of_room,
    }
    return [note for note, number in notes.items() if number]


def _open(path: str) -> ArrowFrames | None:
    try:
        return open_frames(path)
    except DataError:
        return None


def _thumbnail(file: ArrowFrames, frame: int) -> tuple[str | None, float]:
    """Base64 of a small JPEG, and its width by its height; None where the frame cannot be read."""
    try:
        image = decode_jpeg(file.jpeg(frame)).convert("RGB")
    except DECODE_ERRORS:
        return None, 1.0
    image.thumbnail(SIZE)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii"), round(image.width / image.height, 3)
