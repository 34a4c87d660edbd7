"""The report: what stands in it."""

import re

import pytest

from dst_dist.data.frames import write_frames
from dst_dist.errors import ConfigError
from dst_dist.report import page as report
from dst_dist.report.clip_view import describe_clip, follow_states, pair_wrong
from dst_dist.report.page import write_report
from dst_dist.report.thinning import thin
from tests.data.handmade import video
from tests.report.make_run import (
    answer,
    change,
    clip,
    clip_with_errors,
    data_of,
    make_run,
    trained,
    write_clips,
    written,
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(make_run(tmp_path_factory.mktemp("report") / "first"))


def test_thinning_keeps_the_ends_and_the_extremes():
    points = [(step, 1.0 + step % 7 / 10) for step in range(10_000)]
    points[4321], points[6789] = (4321, -5.0), (6789, 50.0)
    thinned = thin(points, 1000)
    assert len(thinned) <= 1000 and thinned == sorted(thinned) and set(thinned) <= set(points)
    assert thinned[0] == points[0] and thinned[-1] == points[-1] and {(4321, -5.0), (6789, 50.0)} <= set(thinned)
    assert thin(points[:1000], 1000) == points[:1000]


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
    # Missed: the reply at 102 and S2 start at 114. The wrong ones count once.
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
    # What was illegal left S1 where it was.
    assert [(step["gold"][-1], step["predicted"][-1]) for step in described["steps"]] == [
        ((110, "completed"), (100, "not_started")),
        ((114, "in_progress"), (104, "in_progress")),
    ]


def test_a_right_clip_has_no_errors():
    assert describe_clip(clip("tea"), "test")["errors"] == {}


@pytest.mark.parametrize(
    ("written_at", "matches", "errors"),
    [
        (104, [answer(0, 0, 0.0)], {"wrong_words": 1}),
        # Half a second off, so strangers are no match: still another text at the same time.
        (105, [], {"wrong_words": 1}),
        (108, [], {"wrong_words": 1}),
        (109, [], {"missed": 1, "false": 1}),
        # In a dataset's window, which may be wider than the tolerance.
        (112, [answer(0, 0, 0.25)], {"wrong_words": 1}),
        (112, [answer(0, 0, 0.75)], {}),
    ],
)
def test_a_reply_is_right_only_with_the_right_words(written_at, matches, errors):
    """Told at frame 104, within a tolerance of four frames."""
    gold, predicted = (
        {"frame": 104, "text": "Stop! Danger."},
        {"frame": written_at, "text": "Well done.", "probability": 0.5},
    )
    one = clip(
        "tea",
        gold={"updates": [], "replies": [gold]},
        predicted={"updates": [], "replies": [predicted]},
        reply_matches=matches,
    )
    described = describe_clip(one, "test")
    assert described["errors"] == errors
    told, said = (
        next(mark for mark in described["marks"] if mark["lane"] == lane) for lane in ("gold_reply", "predicted_reply")
    )
    assert told.get("similarity") == said.get("similarity") == (matches[0]["similarity"] if matches else None)


def test_a_clip_written_before_replies_were_compared_is_not_called_right(tmp_path):
    older = clip("older")
    del older["reply_matches"]
    write_clips(trained(tmp_path / "run"), [older, clip("odd", reply_matches=[answer(5, 0, 1.0)])])
    data = data_of(write_report(tmp_path / "run"))
    assert (
        data["clips"] == []
        and "2 lines of test-streaming-clips.jsonl could not be read; evaluate again" in data["clip_notes"][0]
    )


def test_a_long_clip_has_thinned_curves_that_keep_the_peak():
    probabilities = [0.0] * 5000
    probabilities[3456] = 0.875
    long = clip("long", end_frame=5100, probabilities={"dst_update": probabilities, "speaking": [None] * 5000})
    described = describe_clip(long, "test")
    assert len(described["curves"]["dst_update"]) <= 300 and (3556, 0.875) in described["curves"]["dst_update"]
    assert described["thinned"] and described["curves"]["speaking"] == []


def test_a_step_that_stands_twice_counts_as_it_stood_last(tmp_path):
    run = trained(tmp_path / "run", num_steps=3)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "split": "train", "loss": 0.5, "grad_norm": NaN}\n{"step": 4, "spl')
    data = data_of(write_report(run))
    assert data["training"]["series"]["loss"] == {"train": [[1, 8.0], [2, 4.0], [3, 0.5]], "val": [[3, 2.0]]}
    assert "grad_norm" not in data["training"]["series"] and data["notes"] == [
        "1 lines of metrics.jsonl could not be read."
    ]


def test_long_runs_are_thinned_and_it_is_said(tmp_path):
    data = data_of(write_report(trained(tmp_path / "run", num_steps=2500)))
    assert len(data["training"]["series"]["loss"]["train"]) <= 1000 and data["training"]["thinned_from"] == 2500


def test_pictures_stay_within_the_budget(tmp_path, monkeypatch):
    frames = tmp_path / "frames.arrow"
    write_frames(frames, video(120))
    run = trained(tmp_path / "run")
    write_clips(run, [clip(f"tea{number}", frames_path=str(frames)) for number in range(20)])
    whole = write_report(run)
    assert all(len(one["thumbnails"]) == 20 for one in data_of(whole)["clips"])
    most = whole.stat().st_size - 100_000
    monkeypatch.setattr(report, "MOST_BYTES", most)
    small = write_report(run)
    assert small.stat().st_size <= most and 0 < sum(len(one["thumbnails"]) for one in data_of(small)["clips"]) < 400
    assert any("to keep this file small" in note or "evenly spaced" in note for note in data_of(small)["clip_notes"])


def test_too_many_clips_are_thinned_and_it_is_said(tmp_path, monkeypatch):
    run = trained(tmp_path / "run")
    write_clips(run, [clip(f"tea{number}") for number in range(200)])
    monkeypatch.setattr(report, "MOST_BYTES", 250_000)
    data = data_of(write_report(run))
    assert 0 < len(data["clips"]) < 200 and re.search(r"Only one in \d+ of the 200 clips", data["clip_notes"][0])


def test_what_is_no_clip_is_counted(tmp_path):
    run = trained(tmp_path / "run")
    write_clips(
        run,
        [
            clip("tea"),
            {"id": "half"},
            clip("odd", steps=None),
            clip("empty", end_frame=100),
            clip("unknown", initial_state=[]),
        ],
    )
    data = data_of(write_report(run))
    assert [one["id"] for one in data["clips"]] == ["tea", "unknown"]
    assert "3 lines of test-streaming-clips.jsonl could not be read" in data["clip_notes"][0]
    assert "2 of 2 clips are without pictures" in data["clip_notes"][1]


def test_a_folder_that_is_no_run_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="not a run folder, there is no config.yaml; name the output_dir"):
        write_report(tmp_path)
    (tmp_path / "config.yaml").write_text("model: [")
    with pytest.raises(ConfigError, match="config.yaml: cannot be read"):
        write_report(tmp_path)
    with pytest.raises(ConfigError, match="a folder; name the HTML file"):
        write_report(trained(tmp_path / "run"), tmp_path)


def test_the_page_goes_where_it_is_asked_to(tmp_path):
    out = tmp_path / "deep" / "page.html"
    assert write_report(trained(tmp_path / "run"), out) == out and out.is_file()
    assert not list(out.parent.glob("*.tmp")) and not (tmp_path / "run" / "evaluation").exists()


def test_the_file_refers_to_nothing_outside_itself(page):
    text = page.read_text()
    assert re.findall(r"https?://[^\"'\s)]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<link|@import|<iframe|<script[^>]+src|url\((?!#)", text)
    assert "default-src 'none'" in text
