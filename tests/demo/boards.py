"""Reads a picture of the world of objects back, by templates."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from dst_dist.data.images import encode_jpeg
from dst_dist.demo.objects import COLOURS, SHAPES
from dst_dist.demo.painter import STATUS_COLOURS

KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
MIN_MATCH, MIN_LIGHT = 0.7, 300
"""Cosine of an object with its template; norm of the pixels of a cell that is not empty."""


class Seen(NamedTuple):
    """What lies in a cell: its object, whether a hand is there, the mark's form, and the status of its colour."""

    kind: tuple[str, str]
    has_hand: bool
    form: str | None
    colour: str | None


def pixels_of(jpeg: bytes) -> np.ndarray:
    """Return a picture as float [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(jpeg)), float)


def read_board(jpeg: bytes) -> dict[int, Seen]:
    """Return what lies in each cell that is not empty."""
    image = pixels_of(jpeg)
    background = np.median(image, axis=(0, 1))
    image = np.pad(image - background, ((1, 1), (1, 1), (0, 0)))
    templates = _templates(background)
    boards = [_read_at(image, templates, y, x) for y in (1, 2, 3) for x in (1, 2, 3)]
    return max(boards, key=lambda board: board[0])[1]


def _templates(background: np.ndarray) -> np.ndarray:
    """Return all kinds as a JPEG shows them, with blurred colours, less the background: unit rows [kinds, 192]."""
    drawn = np.tile(background, (16, 16 * len(KINDS), 1))
    cells = [drawn[4:12, 16 * i + 4 : 16 * i + 12] for i in range(len(KINDS))]
    for cell, (colour, shape) in zip(cells, KINDS, strict=True):
        cell[SHAPES[shape]] = COLOURS[colour]
    drawn[:] = pixels_of(encode_jpeg(Image.fromarray(drawn.astype(np.uint8)), 75)) - background
    rows = np.stack(cells).reshape(len(KINDS), -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _read_at(image: np.ndarray, templates: np.ndarray, top: int, left: int) -> tuple[float, dict[int, Seen]]:
    """Return how well the objects match if the board begins there, and what lies in the cells."""
    total, board = 0.0, {}
    for cell in range(9):
        y, x = top + 16 * (cell // 3), left + 16 * (cell % 3)
        plate = image[y : y + 15, x : x + 14]
        inner = plate[3:11, 3:11].ravel()
        match = templates @ inner / max(np.linalg.norm(inner), MIN_LIGHT)
        total += match.max()
        if match.max() > MIN_MATCH:
            has_hand = np.median(plate[12:, 5:9], axis=(0, 1)).min() > 40
            board[cell] = Seen(KINDS[match.argmax()], has_hand, *_read_mark(plate))
    return total, board


def _read_mark(plate: np.ndarray) -> tuple[str | None, str | None]:
    """Return the form of a plate's mark and the status of its colour."""
    edge = [0, 1, 12, 13]
    parts = {"sides": plate[4:10, edge], "tops": plate[[0, 1], 4:10], "corners": plate[[1, 1, 12, 12], [1, 12, 1, 12]]}
    bright = {name: np.median(part.reshape(-1, 3), axis=0) for name, part in parts.items()}
    lit = tuple(name for name, colour in bright.items() if colour.max() > 70)
    form = {("sides", "tops", "corners"): "plate", ("sides", "corners"): "bars", ("corners",): "cross"}.get(lit)
    if form is None:
        return None, None
    statuses = [status for status in STATUS_COLOURS if status != "not_started"]
    hues = np.array([STATUS_COLOURS[status] for status in statuses], float)
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    return form, statuses[(hues @ bright["corners"]).argmax()]
