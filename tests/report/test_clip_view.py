"""A streamed clip as the page draws it: errors, statuses over time, curves."""

import re

import pytest

from dst_dist.report import page
from dst_dist.report.clip_view import describe_clip, follow_states, pair_wrong, read_clip_records
from dst_dist.report.page import write_report
from tests.report.make_run import answer, change, clip, clip_with_errors, data_of, trained, write_clips, written


def test_states_follow_the_updates_and_illegal_transitions_are_found():
    updates = [written(104, change("S1", "start"), change("S2", "complete")), written(106, change("S1", "pause"))]
    courses, illegal = follow_states(100, {"S3": "failed"}, updates)
    assert courses == {"S1": [(100, "not_started"), (104, "in_progress"), (106, "paused")], "S3": [(100, "failed")]}
    assert illegal == {(0, 1)}


def test_wrong_transitions_pair_up_one_to_one_nearest_first():
    gold = [written(10, change("S1", "start", False)), written(30, change("S1", "complete", False))]
    predicted = [
        written(8, change("S2", "start", False)),
        written(9, change("S3", "start", False)),
        written(35, change("S2", "pause", False)),
    ]
    # At 9 is nearer than at 8, which then has no partner; 35 is too far from 30.
    assert pair_wrong(gold, predicted, tolerance_frames=4) == ({(0, 0)}, {(1, 0)})
    assert pair_wrong(gold, predicted, tolerance_frames=5) == ({(0, 0), (1, 0)}, {(1, 0), (2, 0)})


def test_a_wrong_transition_exactly_at_the_tolerance_is_one_error():
    """At 30 frames a second 123 frames are 4.1 s, but 4.1 * 30 is 122.99999999999999."""
    gold, predicted = (
        {"updates": [written(frame, change(step, "start", False))], "replies": []}
        for frame, step in ((100, "S1"), (223, "S2"))
    )
    described = describe_clip(
        clip("bicycle", fps=30.0, end_frame=300, tolerance_s=4.1, gold=gold, predicted=predicted, reply_matches=[]),
        "test",
    )
    assert {kind: number for kind, number in described["errors"].items() if number} == {"wrong": 1}


def test_errors_of_a_clip_worked_out_by_hand():
    described = describe_clip(clip_with_errors("bicycle"), "test")
    # Missed: the reply at 102 and S2 start at 114. Wrong ones count once.
    assert described["errors"] == {"wrong": 1, "wrong_words": 1, "unreadable": 1, "illegal": 2, "missed": 2, "false": 2}
    kinds = {(mark["lane"], mark["frame"]): mark["kinds"] for mark in described["marks"]}
    assert kinds == {
        ("user", 100): [],
        ("gold_update", 104): ["wrong"],
        ("gold_update", 110): [],
        ("gold_update", 114): ["missed"],
        ("predicted_update", 104): ["wrong"],
        ("predicted_update", 106): ["unreadable"],
        ("predicted_update", 110): ["illegal"],
        ("predicted_update", 119): ["false", "illegal"],
        ("gold_reply", 102): ["missed"],
        ("predicted_reply", 117): ["false"],
        ("gold_reply", 108): ["wrong_words"],
        ("predicted_reply", 108): ["wrong_words"],
    }
    # The illegal transition left S1 as it was.
    assert [(step["gold"][-1], step["predicted"][-1]) for step in described["steps"]] == [
        ((110, "completed"), (100, "not_started")),
        ((114, "in_progress"), (104, "in_progress")),
    ]


def test_a_right_clip_has_no_errors():
    assert describe_clip(clip("tea"), "test")["errors"] == {}


@pytest.mark.parametrize(
    ("predicted_frame", "matches", "errors"),
    [
        (104, [answer(0, 0, 0.0)], {"wrong_words": 1}),
        # Half a second off, so texts that differ are not matched: still another text at the same time.
        (105, [], {"wrong_words": 1}),
        (108, [], {"wrong_words": 1}),
        (109, [], {"missed": 1, "false": 1}),
        # In a dataset's window, which may be wider than the tolerance.
        (112, [answer(0, 0, 0.25)], {"wrong_words": 1}),
        (112, [answer(0, 0, 0.75)], {}),
    ],
)
def test_a_reply_is_right_only_with_the_right_words(predicted_frame, matches, errors):
    """The gold reply is at frame 104; the tolerance is four frames."""
    gold, predicted = (
        {"frame": 104, "text": "Stop! Danger."},
        {"frame": predicted_frame, "text": "Well done.", "probability": 0.5},
    )
    one = clip(
        "tea",
        gold={"updates": [], "replies": [gold]},
        predicted={"updates": [], "replies": [predicted]},
        reply_matches=matches,
    )
    described = describe_clip(one, "test")
    assert described["errors"] == errors
    gold_mark, predicted_mark = (
        next(mark for mark in described["marks"] if mark["lane"] == lane) for lane in ("gold_reply", "predicted_reply")
    )
    similarity = matches[0]["similarity"] if matches else None
    assert gold_mark.get("similarity") == predicted_mark.get("similarity") == similarity


def test_a_long_clip_has_thinned_curves_that_keep_the_peak():
    probabilities = [0.0] * 5000
    probabilities[3456] = 0.875
    long = clip("long", end_frame=5100, probabilities={"dst_update": probabilities, "speaking": [None] * 5000})
    described = describe_clip(long, "test")
    assert len(described["curves"]["dst_update"]) <= 300 and (3556, 0.875) in described["curves"]["dst_update"]
    assert described["thinned"] and described["curves"]["speaking"] == []


def test_too_many_clips_are_thinned_with_a_note(tmp_path, monkeypatch):
    run = trained(tmp_path / "run")
    write_clips(run, [clip(f"tea{number}") for number in range(200)])
    monkeypatch.setattr(page, "MOST_BYTES", 250_000)
    data = data_of(write_report(run))
    assert 0 < len(data["clips"]) < 200 and re.search(r"Only one in \d+ of the 200 clips", data["clip_notes"][0])


def test_clips_of_another_version_are_counted(tmp_path):
    run = trained(tmp_path / "run")
    older = clip("older")
    del older["reply_matches"]
    write_clips(run, [clip("tea"), older, {"id": "half"}])
    data = data_of(write_report(run))
    assert [one["id"] for one in data["clips"]] == ["tea"]
    assert "2 lines of test-streaming-clips.jsonl could not be read; evaluate again" in data["clip_notes"][0]


def test_a_clip_without_steps_has_no_curve_of_updates():
    silent = {"updates": [], "replies": []}
    described = describe_clip(clip("talk", steps=[], gold=silent, predicted=silent, reply_matches=[]), "test")
    assert described["curves"].keys() == {"speaking"} and described["steps"] == []


def test_steps_that_the_clip_does_not_declare_are_listed():
    gold = {"updates": [written(104, change("S1", "start")), written(106, change("S7", "start"))], "replies": []}
    predicted = {"updates": [], "replies": []}
    described = describe_clip(clip("tea", gold=gold, predicted=predicted, reply_matches=[]), "test")
    assert described["unknown_steps"] == ["S7"] and [step["id"] for step in described["steps"]] == ["S1", "S2"]


def test_clips_of_a_model_that_was_replaced_are_left_out_with_a_note(tmp_path):
    run = trained(tmp_path / "run")
    write_clips(run, [clip("tea"), clip("bread", weights="old")])
    clips, notes = read_clip_records(run, 10**6)
    assert [one["id"] for one in clips] == ["tea"]
    assert len(notes) == 1 and "1 clips of test-streaming-clips.jsonl are left out" in notes[0]
