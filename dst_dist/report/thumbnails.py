"""Adds small pictures of the frames, within the size that the page may have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from dst_dist.data.frames import open_frames
from dst_dist.data.images import DECODE_ERRORS, thumbnail
from dst_dist.errors import DataError

MOST_PER_CLIP = 32
SIZE = (112, 56)
"""Largest width and height, in pixels."""
QUALITY = 60
USUAL_BYTES = 2500
"""Bytes of a thumbnail as base64; most take less."""


def add_thumbnails(clips: Sequence[dict[str, Any]], room: int) -> list[str]:
    """Give each clip evenly spaced `thumbnails`, pairs (absolute frame, base64 JPEG), and their `aspect` ratio.

    The clips' `frames_path` is removed.

    Args:
        room: bytes that all thumbnails may take together.

    Returns:
        Notes about the frames that are not shown.
    """
    per_clip = min(MOST_PER_CLIP, max(1, room // (USUAL_BYTES * max(1, len(clips)))))
    num_without_file, num_unreadable, num_left_out, num_shortened = 0, 0, 0, 0
    for clip in tqdm(clips, "thumbnails", leave=False, disable=None):
        frames = np.unique(np.linspace(clip["start"], clip["end"] - 1, per_clip).round().astype(int)).tolist()
        num_shortened += len(frames) < clip["end"] - clip["start"]
        clip["thumbnails"] = []
        try:
            file = open_frames(clip.pop("frames_path"))
        except DataError:
            num_without_file += 1
            continue
        for frame in frames:
            try:
                picture, aspect = thumbnail(file.image(frame), SIZE, QUALITY)
            except DECODE_ERRORS:
                num_unreadable += 1
                continue
            if len(picture) + 20 > room:
                num_left_out += 1
                continue
            room -= len(picture) + 20
            clip["thumbnails"].append((frame, picture))
            clip["aspect"] = aspect
    of_all = f"of {len(clips)} clips"
    notes = (
        (num_without_file, f"{of_all} have no pictures: their frames files could not be opened here."),
        (num_unreadable, "frames could not be read."),
        (num_shortened, f"{of_all} show {per_clip} of their frames, evenly spaced."),
        (num_left_out, "pictures were left out to keep this file small."),
    )
    return [f"{number} {text}" for number, text in notes if number]
