"""The pictures of the world of objects: what they show, and that they show no step's number."""

import random
from collections import Counter

import numpy as np
import pytest

from dst_dist.demo.objects import ObjectsPainter
from dst_dist.demo.world import DOMAINS, NEW_DOMAIN, OBJECTS, Domain, Task, draw_schedule, draw_task
from tests.demo.boards import read_board
from tests.demo.reading import moment

ALL_DOMAINS = (*DOMAINS, NEW_DOMAIN)
FORMS = {"not_started": None, "in_progress": "plate", "completed": "plate", "paused": "bars", "cancelled": "cross"}


def task_of(seed: int, domain: Domain) -> Task:
    return draw_task(random.Random(seed), domain, ["Build the radio"], OBJECTS)


def kinds_of(task: Task) -> list[tuple[str, str]]:
    return [(step.colour, step.shape) for step in task.steps]


@pytest.mark.parametrize("domain", ALL_DOMAINS, ids=lambda domain: domain.name)
def test_each_steps_object_is_shown_once_within_its_status(domain):
    task = task_of(2, domain)
    painter = ObjectsPainter(4, task, domain)
    right = total = 0
    for at in draw_schedule(random.Random(1), len(task.steps), num_frames=40, frames_per_clip=40):
        board = read_board(painter.draw(at))
        for kind, status in zip(kinds_of(task), at.statuses, strict=True):
            found = [seen for seen in board.values() if seen.kind == kind]
            marks = [(seen.form, seen.colour) for seen in found]
            colour = None if status == "not_started" else domain.borrowed_colours.get(status, status)
            right += marks == [(FORMS[status], colour)]
            total += 1
    assert right / total > 0.97


def test_bystanders_are_named_by_no_step_and_have_marks_too():
    numbers, forms = Counter(), Counter()
    for seed in range(12):
        domain = ALL_DOMAINS[seed % 4]
        task = task_of(seed, domain)
        painter = ObjectsPainter(seed, task, domain)
        at = moment(statuses=("not_started",) * len(task.steps))
        for _ in range(30):
            jpeg = painter.draw(at)
        others = [seen for seen in read_board(jpeg).values() if seen.kind not in kinds_of(task)]
        assert len({seen.kind for seen in others}) == len(others)
        numbers[len(others)] += 1
        forms.update(seen.form for seen in others)
    assert set(numbers) <= {2, 3, 4} and len(numbers) > 1
    assert forms.keys() == set(FORMS.values())


def test_the_picture_does_not_know_the_steps_numbers():
    domain = DOMAINS[1]
    task = task_of(5, domain)
    schedule = draw_schedule(random.Random(3), len(task.steps), num_frames=20, frames_per_clip=20)
    backwards = Task(task.goal, task.steps[::-1])
    painter, other = ObjectsPainter(9, task, domain), ObjectsPainter(9, backwards, domain)
    for at in schedule:
        assert painter.draw(at) == other.draw(moment(statuses=at.statuses[::-1], error=at.error))


def test_no_place_is_of_one_step():
    places = np.zeros((9, 6), int)
    for seed in range(150):
        task = task_of(seed, DOMAINS[0])
        at = moment(statuses=("not_started",) * len(task.steps))
        for cell, seen in read_board(ObjectsPainter(seed, task, DOMAINS[0]).draw(at)).items():
            if seen.kind in kinds_of(task):
                places[cell, kinds_of(task).index(seen.kind)] += 1
    # The best rule "in this cell lies step k" against the rule that does not look where.
    assert places.max(1).sum() / places.sum() < places.sum(0).max() / places.sum() + 0.08


def test_an_error_shows_in_a_cell_without_object():
    task = task_of(1, DOMAINS[0])
    statuses = ("not_started",) * len(task.steps)
    painter = ObjectsPainter(7, task, DOMAINS[0])
    quiet, error = (read_board(painter.draw(moment(statuses=statuses, error=error))) for error in (False, True))
    assert {cell: seen.kind for cell, seen in quiet.items()} == {
        cell: seen.kind for cell, seen in error.items() if cell in quiet
    }
