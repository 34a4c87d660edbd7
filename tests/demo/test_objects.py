"""The pictures of the world of objects: what they show, and that they show no step's number."""

import random
from collections import Counter

import numpy as np
import pytest

from dst_dist.demo.objects import ObjectsPainter
from dst_dist.demo.world import DOMAINS, NEW_DOMAIN, OBJECTS, Domain, Task, draw_schedule, draw_task
from tests.demo.boards import pixels_of, read_board
from tests.demo.reading import moment

ALL_DOMAINS = (*DOMAINS, NEW_DOMAIN)
FORMS = {"not_started": None, "in_progress": "plate", "completed": "plate", "paused": "bars", "cancelled": "cross"}


def task_of(seed: int, domain: Domain) -> Task:
    return draw_task(random.Random(seed), domain, ["Build the radio"], OBJECTS, OBJECTS.elsewhere)


def kinds_of(task: Task) -> list[tuple[str, str]]:
    return [(step.colour, step.shape) for step in task.steps]


@pytest.mark.parametrize("domain", ALL_DOMAINS, ids=lambda domain: domain.name)
def test_each_steps_object_is_shown_once_within_its_status_and_with_a_hand_when_it_changes(domain):
    task = task_of(2, domain)
    painter = ObjectsPainter(4, task, domain)
    right, hands = [], []
    for at in draw_schedule(random.Random(1), len(task.steps), 25, frames_per_clip=25, rules=OBJECTS.training):
        board = read_board(painter.draw(at))
        for position, (kind, status) in enumerate(zip(kinds_of(task), at.statuses, strict=True)):
            found = [seen for seen in board.values() if seen.kind == kind]
            colour = None if status == "not_started" else domain.borrowed_colours.get(status, status)
            right.append([(seen.form, seen.colour) for seen in found] == [(FORMS[status], colour)])
            if position in dict(at.transitions):
                hands.append([seen.has_hand for seen in found] == [True])
    assert np.mean(right) > 0.97 and np.mean(hands) > 0.9


def test_bystanders_are_named_by_no_step_and_marks_and_hands_come_to_them_too():
    numbers, forms, num_hands = Counter(), Counter(), 0
    for seed in range(8):
        domain = ALL_DOMAINS[seed % 4]
        task = task_of(seed, domain)
        painter = ObjectsPainter(seed, task, domain)
        jpegs = [painter.draw(moment(statuses=("not_started",) * len(task.steps))) for _ in range(45)]
        boards = [read_board(jpeg) for jpeg in jpegs[::15]]
        # Noise hides a shape now and then, for one picture.
        cells = {cell: Counter(board[cell].kind for board in boards if cell in board) for cell in range(9)}
        others = {cell: seen.most_common(1)[0][0] for cell, seen in cells.items() if seen.total() > 2}
        others = {cell: kind for cell, kind in others.items() if kind not in kinds_of(task)}
        assert len(set(others.values())) == len(others)
        numbers[len(others)] += 1
        seen = [board[cell] for board in boards for cell in others if cell in board]
        forms.update(one.form for one in seen)
        num_hands += sum(one.has_hand for one in seen)
    assert set(numbers) <= {2, 3, 4} and len(numbers) > 1
    assert forms.keys() == set(FORMS.values()) and num_hands > 0


def test_the_picture_does_not_know_the_steps_numbers():
    domain = DOMAINS[1]
    task = task_of(5, domain)
    schedule = draw_schedule(random.Random(3), len(task.steps), num_frames=8, frames_per_clip=8)
    backwards = Task(task.goal, task.steps[::-1])
    painter, other = ObjectsPainter(9, task, domain), ObjectsPainter(9, backwards, domain)
    for at in schedule:
        transitions = [(len(task.steps) - 1 - position, name) for position, name in at.transitions]
        same = moment(*transitions, statuses=at.statuses[::-1], error=at.error)
        assert painter.draw(at) == other.draw(same)


def test_no_place_is_of_one_step():
    places = np.zeros((9, 6), int)
    for seed in range(40):
        task = task_of(seed, DOMAINS[0])
        at = moment(statuses=("not_started",) * len(task.steps))
        for cell, seen in read_board(ObjectsPainter(seed, task, DOMAINS[0]).draw(at)).items():
            if seen.kind in kinds_of(task):
                places[cell, kinds_of(task).index(seen.kind)] += 1
    # The best rule "in this cell lies step k" against the rule that does not look where.
    assert places.max(1).sum() / places.sum() < places.sum(0).max() / places.sum() + 0.2


def test_an_error_shows_in_a_cell_without_object():
    for seed in range(4):
        task = task_of(seed, DOMAINS[0])
        statuses = ("not_started",) * len(task.steps)
        painter = ObjectsPainter(seed, task, DOMAINS[0])
        board = read_board(painter.draw(moment(statuses=statuses)))
        image = pixels_of(painter.draw(moment(statuses=statuses, error=True)))
        is_magenta = (image @ [1, -2, 1] > 200).reshape(3, 16, 3, 16).sum((1, 3)).ravel()
        assert is_magenta.max() > 20 and is_magenta.argmax() not in board
