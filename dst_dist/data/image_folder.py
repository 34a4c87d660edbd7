"""Lists a folder's images in the order of a video's frames."""

import re
from pathlib import Path

from dst_dist.errors import DataError
from dst_dist.logs import logger

IMAGES = (".jpg", ".jpeg", ".png")
"""Endings of images, in upper or lower case; other files are passed over and counted."""


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder in the order that people mean: frame10 after frame9.

    Raises:
        DataError: if there is none.
    """
    images, others = [], []
    for path in sorted(folder.iterdir(), key=_natural):
        # macOS writes `._frame.jpg`, which is no image, beside `frame.jpg` on disks and in archives of other systems.
        is_image = path.suffix.lower() in IMAGES and not path.name.startswith("._")
        (images if is_image else others).append(path)
    if not images:
        raise DataError(f"{folder}: no image; there should be files ending in {', '.join(IMAGES)}")
    if others:
        logger.info("%s: %d other files passed over, for example %s", folder, len(others), others[0].name)
    return images


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part) for part in parts]
