"""Timelines, and the delay of computing."""

from collections import Counter

import numpy as np
import pytest

from dst_dist.data.state import Transition
from dst_dist.measure.timeline import (
    Event,
    Watched,
    clock,
    delays,
    gold_timeline,
    predicted_timeline,
    timeline_on_the_clock,
)
from tests.data.dialogs import make_clip, reply, update, user

START = (Transition("S1", "start"),)


def watched(frame_s, written_s):
    """Return a stream of six frames at 2 a second, with an update and a reply after the third."""
    update_s, reply_s = written_s
    events = [
        Event("DST_UPDATE", 2, "...", 0.9, START, 0, update_s),
        Event("assistant", 2, "Now.", 0.9, (), 0, reply_s),
    ]
    states = [{}, {}, *[{"S1": "in_progress"}] * 4]
    return Watched(
        make_clip(update(2), end=6), events, states, np.zeros((6, 2), np.float32), Counter(), np.array(frame_s)
    )


def test_the_gold_timeline_by_hand():
    clip = make_clip(user(1), update(2), reply(2), update(4, "S1 complete"), end=6)
    gold = gold_timeline(clip)
    assert gold.updates == [(1.0, START), (2.0, (Transition("S1", "complete"),))]
    assert [time_s for time_s, _ in gold.replies] == [1.0] and gold.update_positions == [2, 4]
    assert gold.states == [{}, {}, *[{"S1": "in_progress"}] * 2, *[{"S1": "completed"}] * 2]


def test_an_event_is_at_the_time_of_its_frame():
    timeline = predicted_timeline(watched([9.0] * 6, (5.0, 7.0)))
    assert timeline.updates == [(1.0, START)] and timeline.replies == [(1.0, "Now.")]
    assert timeline.states[1:3] == [{}, {"S1": "in_progress"}]


def test_a_frame_waits_for_the_one_before():
    begun_s, done_s = clock(np.array([0.0, 0.5, 1.0, 1.5]), np.array([0.1, 0.75, 0.1, 0.1]))
    # The second is done at 1.25, so the third begins a quarter late and the fourth in time again.
    assert begun_s == pytest.approx([0.0, 0.5, 1.25, 1.5])
    assert done_s == pytest.approx([0.1, 1.25, 1.35, 1.6])


def test_on_the_clock_an_event_is_at_its_end_and_a_state_is_the_known_one():
    """The third frame takes 1.2 s from 1.0 s on: its update is complete at 1.4 s, its reply at 2.1 s."""
    slow = watched([0.1, 0.1, 1.2, 0.1, 0.1, 0.1], (0.4, 1.1))
    timeline = timeline_on_the_clock(slow)
    assert timeline.updates == [(pytest.approx(1.4), START)] and timeline.replies == [(pytest.approx(2.1), "Now.")]
    # When the frames of 1.5 s and 2.0 s arrive, work on the third goes on until 2.2 s: then both wait no more.
    assert timeline.states == [{}, {}, {}, {}, {"S1": "in_progress"}, {"S1": "in_progress"}]
    # Done at 0.1, 0.6, 2.2, 2.3, 2.4, 2.6.
    waits = np.array([0.1, 0.1, 1.2, 0.8, 0.4, 0.1])
    assert delays([slow]) == pytest.approx(
        {"delay_s": np.median(waits), "delay_s_90": np.quantile(waits, 0.9), "delay_s_most": 1.2}
    )


def test_a_model_that_takes_no_time_is_on_time():
    quick = watched([0.0] * 6, (0.0, 0.0))
    assert timeline_on_the_clock(quick) == predicted_timeline(quick)
