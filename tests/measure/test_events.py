"""Metrics of streams, worked out by hand."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dst_dist.data.clips import Step
from dst_dist.data.state import Transition
from dst_dist.measure.events import Tallies, match, tally, tally_stream
from dst_dist.measure.similarity import lexical
from dst_dist.measure.timeline import Event, Timeline, Watched, gold_timeline, predicted_timeline
from tests.data.dialogs import make_clip, reply, update, user

A, B = Transition("S1", "start"), Transition("S1", "complete")


def event_metrics(gold, predicted, step_ids, minutes, tolerance_s=2.0):
    """Return the metrics of one clip of these minutes with these steps."""
    frames = round(minutes * 120)
    clip = replace(make_clip(end=frames), steps=tuple(Step(name, name) for name in step_ids))
    return Tallies([tally(clip, gold, predicted, tolerance_s)])(np.ones(1))


def test_matching_is_one_to_one_with_as_many_pairs_as_possible():
    # Nearest first would give 1.9 to the gold 2.0 and leave 0.0 alone.
    assert match([0.0, 2.0], [1.9, 4.0], 2.0) == [(0, 0), (1, 1)]


def test_of_equally_many_pairs_the_nearest_in_time_are_taken():
    assert match([0.0, 1.0], [1.0, 0.0], 2.0) == [(0, 1), (1, 0)]


def test_a_pair_at_the_same_instant_counts():
    assert match([3.0], [3.0], 0.0) == [(0, 0)]


def test_pairs_beyond_the_tolerance_or_not_allowed_do_not():
    assert match([0.0], [2.1], 2.0) == []
    assert match([0.0], [0.0], 2.0, np.zeros((1, 1), bool)) == []
    assert match([], [1.0], 2.0) == []


@pytest.mark.parametrize("fps", [5, 10, 24, 29.97, 30])
def test_a_pair_exactly_at_the_tolerance_matches_at_any_frame(fps):
    """Rounding may make a difference of two times larger than the tolerance; one frame more is beyond it."""
    for apart in (round(fps), round(2 * fps)):
        tolerance_s = apart / fps
        times_s = [(first / fps, (first + apart) / fps) for first in range(500)]
        assert all(match([one_s], [other_s], tolerance_s) for one_s, other_s in times_s)
        assert not any(match([one_s], [other_s + 1 / fps], tolerance_s) for one_s, other_s in times_s)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        # 60 frames are 2 s, the tolerance.
        ([64], [124], {"late": 0, "missed": 0, "f1@2s": 1}),
        ([124], [64], {"early": 0, "missed": 0, "f1@2s": 1}),
        ([124], [64, 124], {"early": 0, "duplicate": 1 / 2, "f1@2s": 2 / 3}),
        # 150 frames are 5 s, the widest.
        ([98], [248], {"late": 1, "missed": 0, "f1@5s": 1, "false_per_minute": 0}),
    ],
)
def test_an_event_off_by_exactly_a_tolerance(gold, predicted, expected):
    """30 frames a second, at frames where rounding makes the difference larger."""
    assert 124 / 30 - 64 / 30 > 2 and 248 / 30 - 98 / 30 > 5
    gold, predicted = (Timeline(replies=[(frame / 30, "x") for frame in frames]) for frames in (gold, predicted))
    metrics = event_metrics(gold, predicted, [], 1.0)
    assert {name: metrics[f"speaking/{name}"] for name in expected} == expected


def hand_worked():
    """Return the metrics of a clip of a minute and one step: started at 10 s, completed at 30 s; one reply at 30 s."""
    gold = Timeline(
        updates=[(10.0, (A,)), (30.0, (B,))],
        replies=[(30.0, "done")],
        states=[{}, {"S1": "in_progress"}, {"S1": "in_progress"}, {"S1": "completed"}],
        update_positions=[1, 3],
    )
    predicted = Timeline(
        # The start 1.5 s late, the completion never, and one more start.
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


def test_a_transition_of_the_wrong_step_does_not_match():
    gold, other = Timeline(updates=[(1.0, (A,))]), Timeline(updates=[(1.0, (Transition("S2", "start"),))])
    assert event_metrics(gold, other, ["S1", "S2"], 1.0)["transition/f1"] == 0


def test_metrics_that_do_not_apply_are_absent():
    empty = Timeline(states=[{}])
    assert not any("dst_update" in key for key in event_metrics(empty, empty, [], 1.0))
    without_steps = event_metrics(Timeline(replies=[(1.0, "x")], states=[{}]), empty, [], 1.0)
    assert without_steps["speaking/f1@2s"] == 0 and not any(
        "joint" in key or "transition" in key for key in without_steps
    )


def test_a_silent_clip_without_gold_turns_has_no_false_alarm():
    """One reply in half a minute is two a minute; a draw of the silent clip alone has 0."""
    clip, silent, spoken = make_clip(end=60), Timeline(states=[{}]), Timeline(replies=[(1.0, "x")], states=[{}])
    tallies = Tallies([tally(clip, silent, predicted, 2.0) for predicted in (silent, spoken)])
    timing = {"dst_update/false_per_minute", "speaking/false_per_minute"}
    quiet = tallies(np.array([1.0, 0.0]))
    assert {key: value for key, value in quiet.items() if not key.startswith(("joint", "step"))} == dict.fromkeys(
        timing, 0
    )
    assert tallies(np.array([0.0, 1.0]))["speaking/false_per_minute"] == 2
    assert tallies(np.ones(2))["speaking/false_per_minute"] == 1


def test_a_perfect_stream_has_perfect_scores():
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
    """Gold at 10, 20, 30, 40 s. Predicted: 3 s early, on time and again, 4 s late, never; and one far from all."""
    gold = Timeline(replies=[(time_s, "x") for time_s in (10.0, 20.0, 30.0, 40.0)])
    predicted = Timeline(replies=[(time_s, "x") for time_s in (7.0, 20.0, 21.0, 34.0, 55.0)])
    metrics = event_metrics(gold, predicted, [], 1.0)
    shares = {name: metrics[f"speaking/{name}"] for name in ("early", "late", "missed", "duplicate")}
    assert shares == {"early": 1 / 4, "late": 1 / 4, "missed": 1 / 4, "duplicate": 1 / 5}
    assert metrics["speaking/false_per_minute"] == 2
    assert metrics["speaking/latency_s"] == 0.0 and metrics["speaking/latency_s_90"] == pytest.approx(3.2)


def test_a_tolerance_above_five_seconds_widens_what_is_missed():
    """Gold at 5 s, predicted 7 s late, again at 13 s, and at 50 s: within 10 s it is matched, with one duplicate."""
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


def test_false_updates_a_minute_count_only_minutes_of_clips_with_steps():
    """A minute with a false update and a false reply, and three without steps, with another false reply."""
    false = Timeline(updates=[(50.0, (A,))], replies=[(50.0, "x")], states=[{}])
    clips = [make_clip(end=120), make_clip(end=360, steps=())]
    tallies = [
        tally(clip, Timeline(states=[{}]), predicted, 2.0)
        for clip, predicted in zip(clips, (false, replace(false, updates=[])), strict=True)
    ]
    alone, both = Tallies(tallies[:1])(np.ones(1)), Tallies(tallies)(np.ones(2))
    assert both["dst_update/false_per_minute"] == alone["dst_update/false_per_minute"] == 1
    assert both["speaking/false_per_minute"] == 2 / 4
    assert "dst_update/false_per_minute" not in Tallies(tallies)(np.array([0.0, 1.0]))


def test_readable_and_illegal_updates_and_speed_by_hand():
    """Three updates, one unreadable; four transitions, one illegal; 3 s of computing for 6 s of video."""
    clip = make_clip(reply(2), end=12)
    events = [
        Event("DST_UPDATE", 1, "...", 0.9, (A, B), 1),
        Event("DST_UPDATE", 2, "[{", 0.9),
        Event("assistant", 2, "Now.", 0.9),
        Event("DST_UPDATE", 3, "...", 0.9, (A, B)),
    ]
    watched = Watched(clip, events, [{}] * 12, np.zeros((12, 2), np.float32), Counter(), np.full(12, 0.25))
    counted = tally_stream(watched, gold_timeline(clip), predicted_timeline(watched), 2.0, lexical())
    metrics = Tallies([counted])(np.ones(1))
    assert metrics["update/json_valid"] == pytest.approx(2 / 3) and metrics["update/illegal"] == 1 / 4
    assert metrics["real_time_factor"] == pytest.approx(0.5)
    assert metrics["reply/missing"] == 0, "the reply at frame 2 is matched"
    without_model = Tallies([tally(clip, gold_timeline(clip), predicted_timeline(watched), 2.0)])(np.ones(1))
    missing = metrics.keys() - without_model.keys()
    assert {name for name in missing if not name.startswith("reply/")} == {
        "update/json_valid",
        "update/illegal",
        "real_time_factor",
    }


def test_a_weight_is_how_often_a_clip_counts():
    """A clip drawn twice is two clips; one of weight 0 is none."""
    clip = make_clip(update(2), reply(2), end=120)
    right, silent = gold_timeline(clip), Timeline(states=[{}] * 120)
    one, other = tally(clip, right, right, 2.0), tally(clip, right, silent, 2.0)
    weighted, repeated = Tallies([one, other])(np.array([2.0, 1.0])), Tallies([one, one, other])(np.ones(3))
    assert weighted == pytest.approx(repeated) and weighted["transition/recall"] == pytest.approx(2 / 3)
    assert Tallies([one, other])(np.array([1.0, 0.0])) == Tallies([one])(np.ones(1))
