"""The generated world: how steps change over time."""

import random
from collections import Counter

import numpy as np
import pytest

from dst_dist.data.state import TRANSITIONS
from dst_dist.demo.world import SLOTS, Moment, Rules, draw_schedule


@pytest.fixture(scope="module")
def long_schedule() -> list[Moment]:
    return draw_schedule(random.Random(0), num_steps=6, num_frames=30_000, frames_per_clip=30_000)


def test_an_update_is_as_likely_at_every_frame(long_schedule):
    updates = [bool(moment.transitions) for moment in long_schedule]
    for gap in range(1, 7):
        after = [updates[i] for i in range(gap, len(updates)) if updates[i - gap] and not any(updates[i - gap + 1 : i])]
        assert abs(np.mean(after) - SLOTS.elsewhere.update_chance) < 0.025, gap


def test_all_transitions_are_common_and_legal(long_schedule):
    state, seen = {}, Counter()
    for at in long_schedule:
        for step, transition in at.transitions:
            assert state.get(step, "not_started") in TRANSITIONS[transition][0]
            state[step] = TRANSITIONS[transition][1]
            seen[transition] += 1
        assert at.statuses == tuple(state.get(step, "not_started") for step in range(6))
    assert seen.keys() == TRANSITIONS.keys()
    assert min(seen.values()) > 0.05 * sum(seen.values())


def test_completing_the_open_step_and_starting_the_next_is_mostly_wrong(long_schedule):
    before, right, total = ("not_started",) * 6, Counter(), 0
    for at in long_schedule:
        complete = [(step, "complete") for step in range(6) if before[step] == "in_progress"][:1]
        start = [(step, "start") for step in range(6) if before[step] == "not_started"][:1]
        if at.transitions:
            total += 1
            right["both"] += at.transitions == tuple(sorted(complete + start))
            right["one"] += at.transitions == tuple(complete or start)
        before = at.statuses
    assert 0 < max(right.values()) / total < 0.35


def test_updates_and_second_changes_come_as_often_as_their_chances():
    for rules in (SLOTS.elsewhere, Rules((6,), update_chance=0.3, second_chance=0.4)):
        schedule = draw_schedule(random.Random(2), num_steps=6, num_frames=30_000, frames_per_clip=30_000, rules=rules)
        updates = [len(at.transitions) for at in schedule]
        assert abs(np.mean([num > 0 for num in updates]) - rules.update_chance) < 0.01
        assert abs(np.mean([num == 2 for num in updates if num]) - rules.second_chance) < 0.015
