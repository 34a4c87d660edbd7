"""The pictures of the generated world."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from dst_dist.demo.painter import CELL, PLATE, STATUS_COLOURS, Painter
from dst_dist.demo.world import DOMAINS, NEW_DOMAIN, StepPlan, Task, draw_schedule
from tests.demo.reading import moment

TASK = Task("Build the radio", tuple(StepPlan(f"fit red part {n}", "red", "square") for n in range(4)))


def nearest_status(plate: np.ndarray) -> str:
    """Return the status whose colour most of a plate's pixels have."""
    bright = plate[plate.max(-1) - plate.min(-1) > 70]
    if len(bright) < 27:  # a distractor's at most
        return "not_started"
    statuses = [status for status in STATUS_COLOURS if status != "not_started"]
    hues = np.array([STATUS_COLOURS[status] for status in statuses], float)
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    closest = (bright / np.linalg.norm(bright, axis=1, keepdims=True)) @ hues.T
    return statuses[np.bincount(closest.argmax(1), minlength=len(statuses)).argmax()]


@pytest.mark.parametrize("domain", [DOMAINS[0], NEW_DOMAIN], ids=lambda domain: domain.name)
def test_every_picture_shows_every_status(domain):
    rng = random.Random(1)
    schedule = draw_schedule(rng, num_steps=4, num_frames=200, frames_per_clip=32)
    painter = Painter(5, TASK, domain)
    right = total = 0
    for at in schedule:
        image = np.asarray(Image.open(io.BytesIO(painter.draw(at))), float)
        for position, status in enumerate(at.statuses):
            y, x = 2 + CELL * (position // 3), 2 + CELL * (position % 3)
            right += nearest_status(image[y : y + PLATE, x : x + PLATE]) == domain.borrowed_colours.get(status, status)
            total += 1
    assert right / total > 0.98


@pytest.mark.parametrize("error", [False, True])
def test_the_error_mark_is_in_the_ninth_cell(error):
    at = moment(statuses=("not_started",) * 4, error=error)
    image = np.asarray(Image.open(io.BytesIO(Painter(0, TASK, DOMAINS[0]).draw(at))), int)
    num_magenta = (image[32:, 32:] @ [1, -2, 1] > 200).sum()
    assert (num_magenta > 20) == error
