"""The pictures of the world of objects.

A frame shows the object of each step, in the colour and shape that the step's text names, within the mark of the
step's status: a yellow edge (in progress), a green edge (completed), blue bars (paused), red corners (cancelled) or
none (not started). A hand lies below an object that just changed. The objects lie in any order, among bystanders that
no step names and that hands and marks come to as well. So a hand and a mark say nothing until the object is found in
the text, and nothing in a picture depends on the steps' numbers.
"""

import numpy as np

from dst_dist.demo.painter import CELL, ERROR_COLOUR, MARGIN, STATUS_COLOURS, empty_board, finish, status_colours
from dst_dist.demo.world import Domain, Moment, Task

NUM_CELLS = 9
PLATE, EDGE = 14, 2
"""Pixels of a plate, and of its edge, where the mark is."""
COLOURS = {
    "red": (230, 40, 40),
    "blue": (60, 90, 250),
    "green": (40, 200, 70),
    "purple": (170, 60, 210),
    "orange": (250, 150, 30),
    "white": (250, 250, 250),
}
_Y, _X = np.indices((8, 8)) - 3.5
_FAR = np.maximum(abs(_Y), abs(_X))
SHAPES = {"square": _FAR < 4, "bar": abs(_Y) < 2, "ring": _FAR > 2, "corner": (_Y > 1) | (_X < -1)}
"""Shape -> bool [8, 8], the pixels that an object of this shape covers."""
HAND_COLOUR = (250, 190, 160)
HAND_PLACE = np.array([11, 4])
"""Where a hand begins, from the corner of the plate."""
MIN_BYSTANDERS = 2
BYSTANDER_CHANCE = 0.1
"""Chance that a hand gives a bystander a new mark at a frame."""
IDLE_CHANCE = 0.05
"""Chance that a hand touches an object at a frame and changes nothing."""


class ObjectsPainter:
    """Draws one video's frames. Bystanders and places are drawn once; the bystanders' marks change at any frame."""

    def __init__(self, seed: int, task: Task, domain: Domain):
        self._rng = np.random.default_rng(seed)
        self._background = np.array(domain.tint) + self._rng.integers(-20, 21, 3)
        self._kinds = [(step.colour, step.shape) for step in task.steps]
        others = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in self._kinds]
        # One cell stays free for the error mark.
        num_others = self._rng.integers(MIN_BYSTANDERS, NUM_CELLS - len(self._kinds))
        self._others = {others[i]: "not_started" for i in self._rng.choice(len(others), num_others, replace=False)}
        self._cells = self._rng.permutation(NUM_CELLS)
        self._colours = status_colours(domain)

    def draw(self, moment: Moment) -> bytes:
        """Return the picture at `moment` as JPEG."""
        rng = self._rng
        touched = {self._kinds[position] for position, _ in moment.transitions} | self._touch_bystander()
        shown = dict(zip(self._kinds, moment.statuses, strict=True)) | self._others
        if rng.random() < IDLE_CHANCE:
            touched.add(sorted(shown)[rng.integers(len(shown))])
        image = empty_board(self._background)
        place = MARGIN + 1 + rng.integers(-1, 2, 2)
        # Sorted, so that the order of the steps does not matter.
        for cell, kind in zip(self._cells, sorted(shown), strict=False):
            self._put_object(_plate_at(image, place, cell), kind, shown[kind])
            if kind in touched:
                _plate_at(image, place + HAND_PLACE, cell)[:4, :6] = HAND_COLOUR
        if moment.error:
            plate = _plate_at(image, place, self._cells[-1])
            plate[1:9, 5:9] = plate[10:13, 5:9] = ERROR_COLOUR
        return finish(image, rng)

    def _touch_bystander(self) -> set[tuple[str, str]]:
        """Give a bystander a new mark now and then, and return it."""
        if self._rng.random() >= BYSTANDER_CHANCE:
            return set()
        kind = list(self._others)[self._rng.integers(len(self._others))]
        self._others[kind] = list(STATUS_COLOURS)[self._rng.integers(len(STATUS_COLOURS))]
        return {kind}

    def _put_object(self, plate: np.ndarray, kind: tuple[str, str], status: str) -> None:
        if status == "paused":
            plate[:, :EDGE] = plate[:, -EDGE:] = self._colours[status]
        elif status == "cancelled":
            y, x = np.indices((PLATE, PLATE))
            plate[(abs(y - x) < 3) | (abs(y + x - PLATE + 1) < 3)] = self._colours[status]
        elif status != "not_started":
            plate[:] = self._colours[status]
        inner = plate[EDGE:-EDGE, EDGE:-EDGE]
        inner[:] = self._background
        colour, shape = kind
        inner[1:-1, 1:-1][SHAPES[shape]] = COLOURS[colour]


def _plate_at(image: np.ndarray, place: np.ndarray, cell: int) -> np.ndarray:
    y, x = place + CELL * np.array(divmod(cell, 3))
    return image[y : y + PLATE, x : x + PLATE]
