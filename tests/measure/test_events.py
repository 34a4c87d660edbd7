"""Measures of streams, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from dst_dist.data.clips import Step
from dst_dist.data.state import Transition
from dst_dist.measure.events import Tallies, match, tally
from dst_dist.measure.timeline import Timeline, gold_timeline
from tests.data.dialogs import make_clip, reply, update, user

A, B = Transition("S1", "start"), Transition("S1", "complete")
ALL = np.ones((2, 2), bool)


def event_metrics(gold, predicted, step_ids, minutes, tolerance_s=2.0):
    """Of one clip that is so long, with these steps."""
    frames = round(minutes * 120)
    clip = replace(make_clip(end=frames), steps=tuple(Step(name, name) for name in step_ids))
    return Tallies([tally(clip, gold, predicted, tolerance_s)])(np.ones(1))


def test_matching_is_one_to_one_with_as_many_pairs_as_possible():
    # Nearest first would give 1.9 to the gold 2.0 and leave 0.0 alone.
    assert match([0.0, 2.0], [1.9, 4.0], ALL, 2.0) == [(0, 0), (1, 1)]


def test_of_equally_many_pairs_the_nearest_in_time_are_taken():
    assert match([0.0, 1.0], [1.0, 0.0], ALL, 2.0) == [(0, 1), (1, 0)]


def test_a_pair_at_the_same_instant_counts():
    assert match([3.0], [3.0], ALL[:1, :1], 0.0) == [(0, 0)]


def test_pairs_beyond_the_tolerance_or_not_allowed_do_not():
    assert match([0.0], [2.1], ALL[:1, :1], 2.0) == []
    assert match([0.0], [0.0], ~ALL[:1, :1], 2.0) == []
    assert match([], [1.0], np.ones((0, 1), bool), 2.0) == []


@pytest.mark.parametrize("fps", [5, 10, 24, 29.97, 30])
def test_a_pair_exactly_at_the_tolerance_matches_at_any_frame(fps):
    """A difference of two times may be a rounding more than the time that as many frames take; one frame more is more."""
    for apart in (round(fps), round(2 * fps)):
        tolerance_s = apart / fps
        times_s = [(first / fps, (first + apart) / fps) for first in range(500)]
        assert all(match([one_s], [other_s], ALL[:1, :1], tolerance_s) for one_s, other_s in times_s)
        assert not any(match([one_s], [other_s + 1 / fps], ALL[:1, :1], tolerance_s) for one_s, other_s in times_s)


@pytest.mark.parametrize(
    ("told", "written", "expected"),
    [
        # 60 frames are 2 s, the tolerance.
        ([64], [124], {"late": 0, "missed": 0, "f1@2s": 1}),
        ([124], [64], {"early": 0, "missed": 0, "f1@2s": 1}),
        ([124], [64, 124], {"early": 0, "duplicate": 1 / 2, "f1@2s": 2 / 3}),
        # 150 frames are 5 s, the widest.
        ([98], [248], {"late": 1, "missed": 0, "f1@5s": 1, "false_per_minute": 0}),
    ],
)
def test_what_is_off_by_exactly_a_tolerance(told, written, expected):
    """30 frames a second, at frames where a rounding makes it more."""
    assert 124 / 30 - 64 / 30 > 2 and 248 / 30 - 98 / 30 > 5
    gold, predicted = (Timeline(replies=[(frame / 30, "x") for frame in frames]) for frames in (told, written))
    metrics = event_metrics(gold, predicted, [], 1.0)
    assert {name: metrics[f"speaking/{name}"] for name in expected} == expected


def hand_worked():
    """A clip of a minute and one step: started at 10 s, completed at 30 s; one reply at 30 s."""
    gold = Timeline(
        updates=[(10.0, (A,)), (30.0, (B,))],
        replies=[(30.0, "done")],
        states=[{}, {"S1": "in_progress"}, {"S1": "in_progress"}, {"S1": "completed"}],
        update_positions=[1, 3],
    )
    predicted = Timeline(
        # The start 1.5 s late, the completion never, and a start that is none.
        updates=[(11.5, (A,)), (50.0, (A,))],
        replies=[(31.0, "x"), (55.0, "y")],
        states=[{}, {}, {"S1": "in_progress"}, {"S1": "in_progress"}],
    )
    return event_metrics(gold, predicted, ["S1"], 1.0)


def test_a_clip_worked_out_by_hand():
    metrics = hand_worked()
    assert (
        metrics["transition/precision"] == 1 / 2
        and metrics["transition/recall"] == 1 / 2
        and metrics["transition/f1"] == 1 / 2
    )
    assert (metrics["transition/missed"], metrics["transition/extra"]) == (1, 1)
    assert metrics["joint_goal_accuracy/frames"] == 2 / 4
    assert metrics["joint_goal_accuracy/updates"] == 0 / 2
    assert metrics["step_status_accuracy"] == 2 / 4
    # Updates: none within 1 s, one of two within 2 s and 5 s; replies: one of one and two within 1 s.
    assert [metrics[f"dst_update/f1@{t}s"] for t in (1, 2, 5)] == [0.0, 0.5, 0.5]
    assert [metrics[f"speaking/f1@{t}s"] for t in (1, 2, 5)] == pytest.approx([2 / 3] * 3)
    assert metrics["dst_update/false_per_minute"] == 1 and metrics["speaking/false_per_minute"] == 1
    assert metrics["dst_update/missed"] == 1 / 2 and metrics["speaking/missed"] == 0
    assert metrics["dst_update/latency_s"] == 1.5 and metrics["speaking/latency_s"] == 1.0


def test_the_right_change_of_the_wrong_step_is_no_match():
    gold, other = Timeline(updates=[(1.0, (A,))]), Timeline(updates=[(1.0, (Transition("S2", "start"),))])
    assert event_metrics(gold, other, ["S1", "S2"], 1.0)["transition/f1"] == 0


def test_what_does_not_apply_is_absent():
    empty = Timeline(states=[{}])
    assert not any("dst_update" in key for key in event_metrics(empty, empty, [], 1.0))
    without_steps = event_metrics(Timeline(replies=[(1.0, "x")], states=[{}]), empty, [], 1.0)
    assert without_steps["speaking/f1@2s"] == 0 and not any(
        "joint" in key or "transition" in key for key in without_steps
    )


def test_of_silence_where_nothing_should_be_written_no_minute_has_a_false_alarm():
    """Not so with one reply there, in half a minute; a draw of the silent clip alone has 0."""
    clip, silent, spoken = make_clip(end=60), Timeline(states=[{}]), Timeline(replies=[(1.0, "x")], states=[{}])
    tallies = Tallies([tally(clip, silent, written, 2.0) for written in (silent, spoken)])
    timing = {"dst_update/false_per_minute", "speaking/false_per_minute"}
    quiet = tallies(np.array([1.0, 0.0]))
    assert {key: value for key, value in quiet.items() if not key.startswith(("joint", "step"))} == dict.fromkeys(
        timing, 0
    )
    assert tallies(np.array([0.0, 1.0]))["speaking/false_per_minute"] == 2
    assert tallies(np.ones(2))["speaking/false_per_minute"] == 1


def test_the_perfect_stream_is_perfect():
    clip = make_clip(update(2), reply(2), user(5), reply(5), update(9, "S1 complete", "S2 start"), end=12)
    gold = gold_timeline(clip)
    metrics = event_metrics(gold, gold, [step.id for step in clip.steps], 0.5)
    ones = (
        "transition/f1",
        "joint_goal_accuracy/frames",
        "joint_goal_accuracy/updates",
        "step_status_accuracy",
        "speaking/f1@1s",
    )
    assert [metrics[name] for name in ones] == [1.0] * 5
    assert metrics["speaking/false_per_minute"] == 0 and metrics["dst_update/latency_s"] == 0


def test_early_late_missed_and_duplicate_by_hand():
    """Gold at 10, 20, 30, 40 s. Written: 3 s early, on time and again, 4 s late, never; and one far from everything."""
    gold = Timeline(replies=[(time_s, "x") for time_s in (10.0, 20.0, 30.0, 40.0)])
    predicted = Timeline(replies=[(time_s, "x") for time_s in (7.0, 20.0, 21.0, 34.0, 55.0)])
    metrics = event_metrics(gold, predicted, [], 1.0)
    shares = {name: metrics[f"speaking/{name}"] for name in ("early", "late", "missed", "duplicate")}
    assert shares == {"early": 1 / 4, "late": 1 / 4, "missed": 1 / 4, "duplicate": 1 / 5}
    assert metrics["speaking/false_per_minute"] == 2
    assert metrics["speaking/latency_s"] == 0.0 and metrics["speaking/latency_s_90"] == pytest.approx(3.2)


def test_a_tolerance_above_five_seconds_widens_what_is_missed():
    """Told at 5 s, written 7 s late and again at 13 s, a far one at 50 s: found, and written twice, within 10 s."""
    gold = Timeline(updates=[(5.0, (A,))])
    alone, more = (Timeline(updates=[(time_s, (A,)) for time_s in times_s]) for times_s in ([12.0], [12.0, 13.0, 50.0]))
    found, again = (event_metrics(gold, predicted, ["S1"], 1.0, tolerance_s=10.0) for predicted in (alone, more))
    assert found["transition/f1"] == 1 and found["dst_update/f1@5s"] == 0
    assert [
        found[f"dst_update/{name}"] for name in ("missed", "late", "duplicate", "false_per_minute", "latency_s")
    ] == [0, 0, 0, 0, 7]
    assert (again["dst_update/missed"], again["dst_update/duplicate"], again["dst_update/false_per_minute"]) == (
        0,
        1 / 3,
        2,
    )


def test_updates_are_false_in_minutes_of_clips_with_steps_alone():
    """A minute with a false update and a false reply, and three without steps, with another false reply."""
    false = Timeline(updates=[(50.0, (A,))], replies=[(50.0, "x")], states=[{}])
    clips = [make_clip(end=120), make_clip(end=360, steps=())]
    tallies = [
        tally(clip, Timeline(states=[{}]), written, 2.0)
        for clip, written in zip(clips, (false, replace(false, updates=[])), strict=True)
    ]
    alone, both = Tallies(tallies[:1])(np.ones(1)), Tallies(tallies)(np.ones(2))
    assert both["dst_update/false_per_minute"] == alone["dst_update/false_per_minute"] == 1
    assert both["speaking/false_per_minute"] == 2 / 4
    assert "dst_update/false_per_minute" not in Tallies(tallies)(np.array([0.0, 1.0]))


def test_weights_are_how_often_a_clip_counts():
    """A clip drawn twice is two clips; one of weight 0 is none."""
    clip = make_clip(update(2), reply(2), end=120)
    right, silent = gold_timeline(clip), Timeline(states=[{}] * 120)
    one, other = tally(clip, right, right, 2.0), tally(clip, right, silent, 2.0)
    weighted, repeated = Tallies([one, other])(np.array([2.0, 1.0])), Tallies([one, one, other])(np.ones(3))
    assert weighted == pytest.approx(repeated) and weighted["transition/recall"] == pytest.approx(2 / 3)
    assert Tallies([one, other])(np.array([1.0, 0.0])) == Tallies([one])(np.ones(1))
