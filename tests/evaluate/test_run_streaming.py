"""Streamed evaluation: on the clock, next to another run, with full contexts, and of a silent model."""

import itertools
import json
import shutil
from types import SimpleNamespace

from dst_dist.evaluate.run import stream_run
from dst_dist.streaming import watch
from tests.evaluate.evaluating import evaluate, trained_one_step
from tests.train.in_process import own_logging


def test_on_the_clock_with_another_run_among_the_baselines(starter, run, alone, tmp_path):
    """The other run is a copy with the same result."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "evaluation").mkdir(exist_ok=True)
    (other / "evaluation/val-streaming.json").write_text(json.dumps(alone[1][1]["val-streaming.json"]))
    _, files = evaluate(starter, run, tmp_path / "clock", None, 1, "--on-the-clock", "--compare", f"blind={other}")
    result, before = files["val-streaming.json"], alone[1][1]["val-streaming.json"]
    assert result["transition/f1"] == before["transition/f1"] == result["baselines"]["blind"]["transition/f1"]
    on_the_clock = result["on_the_clock"]
    assert 0 < on_the_clock["delay_s"] <= on_the_clock["delay_s_90"] <= on_the_clock["delay_s_most"]
    assert on_the_clock["real_time_factor"] == result["real_time_factor"]


def test_a_model_slower_than_its_video_misses_everything_on_the_clock(run, monkeypatch):
    """Ten seconds a frame: what it writes comes at least 2.5 s after the end of an 8 s clip, and counts nowhere."""
    ticks = itertools.count(step=10)
    monkeypatch.setattr(watch, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    with own_logging():
        result = stream_run(run, "val", on_the_clock=True)
    on_the_clock = result["on_the_clock"]
    for head in ("dst_update", "speaking"):
        assert result[f"{head}/f1@2s"] > 0.2 and result[f"{head}/missed"] < 1
        assert on_the_clock[f"{head}/f1@2s"] == 0 and on_the_clock[f"{head}/missed"] == 1
    assert on_the_clock["delay_s"] >= 80


def test_full_contexts_and_unseen_frames_are_logged(run, caplog):
    """Contexts of half a clip; and a model that was trained on the frames of turns only."""
    with own_logging(), caplog.at_level("INFO", "dst_dist"):
        result = stream_run(run, "val", ["train.max_frames=8", "data.frames=event", "eval.max_clips=3"])
    (kind,) = (kind for kind in result["counts"] if kind.startswith("contexts that were full"))
    assert f"val, streamed: {result['counts'][kind]} {kind}" in caplog.messages and result["counts"][kind] >= 3
    assert sum("learned from the frames of turns alone" in line for line in caplog.messages) == 1


def test_a_model_that_never_writes_equals_the_baseline_never(demo_words, tmp_path):
    with own_logging():
        folder = trained_one_step(demo_words, tmp_path / "run", "data.val=[kitchen]")
        result = stream_run(folder, "val", ["eval.dst_threshold=1.0", "eval.speaking_threshold=1.0"])
    never = result["baselines"]["never"]
    assert never["transition/recall"] == 0 and 0 < never["joint_goal_accuracy/frames"] < 1
    assert {key: result[key] for key in never} == never
    assert result["num_videos"] == 2 and result["real_time_factor"] > 0
    assert json.loads((folder / "evaluation/val-streaming.json").read_text()) == result
