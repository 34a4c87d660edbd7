"""The pictures of the generated world.

A frame shows a board of nine cells. Cell k belongs to step k+1 and shows its status: an empty frame
(not started), the step's object loose on a yellow plate (in progress), the object in place on a green
plate (completed), two blue bars (paused) or a red cross (cancelled). The ninth cell now and then shows
an error mark. A change of status shows only as a difference to the frames before.
"""

import numpy as np
from PIL import Image

from dst_dist.data.images import encode_jpeg
from dst_dist.demo.world import Domain, Moment, StepPlan, Task

FRAME_SIZE = 48
CELL, PLATE, MARGIN = 16, 12, 4
"""Pixels of a cell, of the plate in it, and of the border that is cut off after drawing."""
STATUS_COLOURS = {
    "not_started": (70, 70, 70),
    "in_progress": (240, 210, 40),
    "completed": (50, 210, 70),
    "paused": (60, 110, 250),
    "cancelled": (230, 50, 50),
}
OBJECT_COLOURS = {
    "red": (200, 30, 30),
    "blue": (40, 60, 200),
    "green": (20, 110, 40),
    "purple": (140, 40, 170),
    "orange": (240, 130, 20),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
    "brown": (110, 70, 30),
}
ERROR_COLOUR = (255, 0, 255)
NOISE = 8.0
"""Standard deviation of the pixels' noise, of 255."""

_Y, _X = np.indices((6, 6)) - 2.5
_FAR = np.maximum(abs(_Y), abs(_X))
OBJECT_MASKS = {
    "square": _FAR < 2.6,
    "disc": _Y**2 + _X**2 < 8,
    "bar": abs(_Y) < 1.6,
    "ring": (_FAR > 1) & (_FAR < 2.6),
    "corner": (_Y > 0.6) | (_X < -0.6),
    "cross": (abs(_Y) < 1) | (abs(_X) < 1),
}
"""Shape -> bool [6, 6], the pixels that an object of this shape covers."""


class Painter:
    """Draws one video's frames: board and objects stay; jitter, distractors, light and noise are new in each frame."""

    def __init__(self, seed: int, task: Task, domain: Domain):
        self._rng = np.random.default_rng(seed)
        self._background = np.array(domain.tint) + self._rng.integers(-20, 21, 3)
        self._steps = task.steps
        self._place = MARGIN + 2 + self._rng.integers(-1, 2, 2)
        shades = self._rng.uniform(0.8, 1.05, len(task.steps))
        colours = status_colours(domain)
        self._plates = [
            {status: self._draw_plate(step, status, np.array(colour) * shade) for status, colour in colours.items()}
            for step, shade in zip(task.steps, shades, strict=True)
        ]

    def _draw_plate(self, step: StepPlan, status: str, colour: np.ndarray) -> np.ndarray:
        plate = np.full((PLATE, PLATE, 3), self._background, float)
        if status == "not_started":
            plate[[0, -1], :] = plate[:, [0, -1]] = colour
        elif status == "paused":
            plate[:, 1:5] = plate[:, 7:11] = colour
        elif status == "cancelled":
            y, x = np.indices((PLATE, PLATE))
            plate[(abs(y - x) < 2) | (abs(y + x - PLATE + 1) < 2)] = colour
        else:
            plate[:] = colour
        if status == "completed":
            _put_object(plate, step, 3, 3)
        return plate

    def draw(self, moment: Moment) -> bytes:
        """Return the picture at `moment` as JPEG."""
        rng = self._rng
        image = empty_board(self._background)
        top, left = self._place + rng.integers(-1, 2, 2)
        for position, status in enumerate(moment.statuses):
            y, x = top + CELL * (position // 3), left + CELL * (position % 3)
            plate = image[y : y + PLATE, x : x + PLATE]
            plate[:] = self._plates[position][status]
            if status == "in_progress":
                _put_object(plate, self._steps[position], *rng.integers(0, 7, 2))
        if moment.error:
            mark = image[top + 2 * CELL : top + 2 * CELL + PLATE, left + 2 * CELL : left + 2 * CELL + PLATE]
            mark[0:8, 4:8] = mark[9:12, 4:8] = ERROR_COLOUR
        return finish(image, rng)


def status_colours(domain: Domain) -> dict[str, tuple[int, int, int]]:
    """Return the colour of each status in a domain's pictures."""
    return {status: STATUS_COLOURS[domain.borrowed_colours.get(status, status)] for status in STATUS_COLOURS}


def empty_board(background: np.ndarray) -> np.ndarray:
    """Return a picture of one colour, float64 [height, width, 3], with the border that `finish` cuts off."""
    return np.full((FRAME_SIZE + 2 * MARGIN, FRAME_SIZE + 2 * MARGIN, 3), background, float)


def finish(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return a drawn picture as JPEG: scatter small patches, cut the border off, change the light and add noise."""
    for y, x, height, width in rng.integers((4, 4, 2, 2), (48, 48, 6, 6), (rng.integers(0, 3), 4)):
        image[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    image = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    image = image * rng.uniform(0.85, 1.1) + rng.normal(0, NOISE, image.shape)
    return encode_jpeg(Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)), int(rng.integers(60, 93)))


def _put_object(plate: np.ndarray, step: StepPlan, y: int, x: int) -> None:
    mask = OBJECT_MASKS[step.shape]
    plate[y : y + len(mask), x : x + len(mask)][mask] = OBJECT_COLOURS[step.colour]
