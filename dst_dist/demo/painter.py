"""The pictures of the generated world.

A frame shows a board of nine cells. Cell k belongs to step k+1 and shows its status: an empty frame
(not started), the step's object loose on a yellow plate (in progress), the object in place on a green
plate (completed), two blue bars (paused) or a red cross (cancelled). The ninth cell now and then shows
an error mark. A change of status shows only as a difference to the frames before.
"""

import io
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image

from dst_dist.demo.world import Moment, StepPlan, Task

FRAME_SIZE = 48
CELL, PLATE, MARGIN = 16, 12, 4
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


class Painter:
    """Draws one video's frames: fixed board and objects; jitter, distractors, light and noise each frame.

    Args:
        borrowed_colours: as a `Domain` has them.
    """

    def __init__(
        self,
        seed: int,
        task: Task,
        tint: tuple[int, int, int],
        borrowed_colours: Mapping[str, str] = MappingProxyType({}),
    ):
        self._borrowed_colours = borrowed_colours
        self._rng = np.random.default_rng(seed)
        self._background = np.array(tint) + self._rng.integers(-20, 21, 3)
        self._steps = task.steps
        self._place = MARGIN + 2 + self._rng.integers(-1, 2, 2)
        shades = self._rng.uniform(0.8, 1.05, len(task.steps))
        self._plates = [self._draw_plates(step, shade) for step, shade in zip(task.steps, shades, strict=True)]

    def _draw_plates(self, step: StepPlan, shade: float) -> dict[str, np.ndarray]:
        plates = {}
        for status in STATUS_COLOURS:
            colour = STATUS_COLOURS[self._borrowed_colours.get(status, status)]
            plate = np.empty((PLATE, PLATE, 3))
            plate[:] = self._background
            _MARKS[status](plate, np.array(colour) * shade)
            plates[status] = plate
        self._put_object(plates["completed"], step, 3, 3)
        return plates

    def _put_object(self, plate: np.ndarray, step: StepPlan, y: int, x: int) -> None:
        size = OBJECT_MASKS[step.shape].shape[0]
        plate[y : y + size, x : x + size][OBJECT_MASKS[step.shape]] = OBJECT_COLOURS[step.colour]

    def draw(self, moment: Moment) -> bytes:
        """The picture at `moment` as JPEG."""
        rng = self._rng
        image = np.empty((FRAME_SIZE + 2 * MARGIN, FRAME_SIZE + 2 * MARGIN, 3))
        image[:] = self._background
        top, left = self._place + rng.integers(-1, 2, 2)
        for position, status in enumerate(moment.statuses):
            y, x = top + CELL * (position // 3), left + CELL * (position % 3)
            plate = image[y : y + PLATE, x : x + PLATE]
            plate[:] = self._plates[position][status]
            if status == "in_progress":
                self._put_object(plate, self._steps[position], *rng.integers(0, 7, 2))
        if moment.error:
            mark = image[top + 2 * CELL : top + 2 * CELL + PLATE, left + 2 * CELL : left + 2 * CELL + PLATE]
            mark[0:8, 4:8] = mark[9:12, 4:8] = ERROR_COLOUR
        self._add_distractors(image)
        image = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
        image = image * rng.uniform(0.85, 1.1) + rng.normal(0, NOISE, image.shape)
        return encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), int(rng.integers(60, 93)))

    def _add_distractors(self, image: np.ndarray) -> None:
        for y, x, height, width in self._rng.integers((4, 4, 2, 2), (48, 48, 6, 6), (self._rng.integers(0, 3), 4)):
            image[y : y + height, x : x + width] = self._rng.integers(0, 256, 3)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """`image`: uint8 [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _mark_not_started(plate: np.ndarray, colour: np.ndarray) -> None:
    plate[[0, -1], :] = plate[:, [0, -1]] = colour


def _mark_plate(plate: np.ndarray, colour: np.ndarray) -> None:
    plate[:] = colour


def _mark_paused(plate: np.ndarray, colour: np.ndarray) -> None:
    plate[:, 1:5] = plate[:, 7:11] = colour


def _mark_cancelled(plate: np.ndarray, colour: np.ndarray) -> None:
    y, x = np.indices(plate.shape[:2])
    plate[(abs(y - x) < 2) | (abs(y + x - PLATE + 1) < 2)] = colour


_MARKS = {
    "not_started": _mark_not_started,
    "in_progress": _mark_plate,
    "completed": _mark_plate,
    "paused": _mark_paused,
    "cancelled": _mark_cancelled,
}


def _object_masks() -> dict[str, np.ndarray]:
    y, x = np.indices((6, 6)) - 2.5
    far = np.maximum(abs(y), abs(x))
    return {
        "square": far < 2.6,
        "disc": y**2 + x**2 < 8,
        "bar": abs(y) < 1.6,
        "ring": (far > 1) & (far < 2.6),
        "corner": (y > 0.6) | (x < -0.6),
        "cross": (abs(y) < 1) | (abs(x) < 1),
    }


OBJECT_MASKS = _object_masks()
