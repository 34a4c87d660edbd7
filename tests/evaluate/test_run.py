"""`dst-dist evaluate` as a user starts it: alone and sharded, and what it leaves."""

import itertools
import json
import shutil
from types import SimpleNamespace

import pytest

from dst_dist import cli
from dst_dist.errors import ConfigError
from dst_dist.evaluate.compare import TAKEN_NAMES
from dst_dist.evaluate.run import evaluate_run, stream_run
from dst_dist.streaming import watch
from tests.launching import launch
from tests.train.in_process import own_logging, train

TIMES = ("real_time_factor", "delay_s", "delay_s_90", "delay_s_most")


@pytest.fixture(scope="module")
def run(demo, demo_words, tmp_path_factory):
    """A run whose model writes updates and replies, some of them right."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    words = [
        "demo",
        *demo_words,
        "train.max_steps=60",
        "train.global_batch_size=8",
        "data.val=[workshop, kitchen]",
        "eval.every_steps=60",
        "optim.learning_rate=2e-3",
        "optim.warmup_steps=5",
        "log.report_to=[]",
        "eval.dst_threshold=0.3",
        "eval.speaking_threshold=0.3",
        f"output_dir={folder}",
    ]
    assert train(words) == 0
    return folder


def evaluate(run, tmp_path, engine, num_processes, *words):
    """Of a copy; all that is below evaluation/ by name."""
    copy = tmp_path / f"{engine}-{num_processes}"
    shutil.copytree(run, copy, symlinks=True)
    done = launch(
        engine,
        words,
        tmp_path / f"{engine}-{num_processes}-output",
        num_processes,
        module=("dst_dist", "evaluate", str(copy)),
    )
    assert done.returncode == 0, done.output[-3000:]
    read = {path.name: path.read_text() for path in (copy / "evaluation").iterdir()}
    return done.output, {
        name: [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
        for name, text in read.items()
    }


def without_times(result):
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in result.items()
        if key.split("/")[0] not in TIMES
    }


def assert_close(ours, theirs, where=""):
    """The same keys, numbers within rounding."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_close(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, where)
    else:
        assert ours == (pytest.approx(theirs, rel=1e-4, abs=1e-4) if isinstance(ours, float) else theirs), where


@pytest.fixture(scope="module")
def alone(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    forced = evaluate(run, folder / "forced", None, 1)
    streamed = evaluate(run, folder / "streamed", None, 1, "--streaming")
    return forced, streamed


@pytest.mark.parametrize("engine, num_processes", [("cpu_ddp", 2), ("cpu_zero2", 3)])
def test_any_number_of_processes_gives_the_same(run, alone, tmp_path, engine, num_processes):
    """Three processes, four videos: the shares differ in length, and nothing is done twice."""
    for number, more in enumerate(((), ("--streaming",))):
        output, files = evaluate(run, tmp_path / str(number), engine, num_processes, *more)
        assert output.count("written to") == 1
        ours, theirs = (
            ({name: without_times(f) if isinstance(f, dict) else f for name, f in some.items()})
            for some in (files, alone[number][1])
        )
        assert_close(ours, theirs)


def test_what_is_measured(alone):
    (output, files), (streamed_output, streamed) = alone
    result = files["val-teacher_forced.json"]
    assert set(result["by_dataset"]) == {"workshop", "kitchen"} and "by_domain" not in result
    assert result["num_videos"] == 4 and result["by_dataset"]["kitchen"]["num_videos"] == 2
    assert set(result["baselines"]) == {"chance", "rule", "never"} <= set(TAKEN_NAMES) and set(result["curves"]) == {
        "dst_update",
        "speaking",
    }
    low, high = result["dst_update/average_precision/ci95"]
    assert low <= result["dst_update/average_precision"] <= high
    # The rate of training is stored with the model.
    assert 0.1 < result["baselines"]["chance"]["dst_update/recall"] < 0.4
    result = streamed["val-streaming.json"]
    assert set(result["baselines"]) == {"never", "always", "periodic", "rule", "random"} <= set(TAKEN_NAMES)
    assert result["reply/similarity"] == "lexical" and result["reply/windows"]["kitchen"]["name"] == "default"
    assert {
        "reply/recall",
        "transition/f1",
        "joint_goal_accuracy/frames",
        "step_status_accuracy",
        "real_time_factor",
        "speaking/early",
    } <= set(result)
    assert all("ci95" not in key for values in result["baselines"].values() for key in values)
    assert "joint_goal_accuracy/frames" in streamed_output and "never" in streamed_output


def test_what_it_was_measured_on(alone):
    """As many clips as there are, by the same fingerprint, with the settings that change each kind's numbers."""
    forced, streamed = (
        alone[0][1]["val-teacher_forced.json"]["measured_on"],
        alone[1][1]["val-streaming.json"]["measured_on"],
    )
    both = {
        "clips": forced["clips"],
        "num_clips": 12,
        "eval.max_clips": None,
        "dst_update/threshold": 0.3,
        "speaking/threshold": 0.3,
    }
    assert forced == both | {"data.frames": "continuous", "labels.positive_frames": "last"}
    assert streamed == both | {
        "eval.tolerance_s": 2.0,
        "eval.similarity": "lexical",
        "eval.on_full_context": "carry_state",
    }


def test_the_record_of_each_clip(alone, demo):
    records = alone[1][1]["val-streaming-clips.jsonl"]
    clips = [
        clip for name in ("workshop", "kitchen") for clip in json.loads((demo / name / "val_training.json").read_text())
    ]
    assert len(records) == len(clips) == 12
    result = alone[1][1]["val-streaming.json"]
    matched = {"gold": 0, "predicted": 0}
    for record, clip in zip(records, clips, strict=True):
        assert (record["start_frame"], record["end_frame"]) == (clip["start_frame_idx"], clip["end_frame_idx"])
        assert len(record["probabilities"]["dst_update"]) == clip["end_frame_idx"] - clip["start_frame_idx"]
        assert all(
            clip["start_frame_idx"] <= event["frame"] < clip["end_frame_idx"]
            for side in ("gold", "predicted")
            for kind in ("updates", "replies")
            for event in record[side][kind]
        )
        for side in matched:
            matched[side] += sum(change["matched"] for one in record[side]["updates"] for change in one["transitions"])
        decided = sum(value > 0.3 for value in record["probabilities"]["dst_update"])
        assert decided <= len(record["predicted"]["updates"]) <= decided + len(record["user"])
    for side, unmatched in (("gold", "missing"), ("predicted", "redundant")):
        places = [(number, match[side]) for number, record in enumerate(records) for match in record["reply_matches"]]
        num_replies = sum(len(record[side]["replies"]) for record in records)
        assert len(set(places)) == len(places) > 0 and result[f"reply/{unmatched}"] == pytest.approx(
            1 - len(places) / num_replies
        )
    num_correct = sum(match["correct"] for record in records for match in record["reply_matches"])
    assert result["reply/recall"] == pytest.approx(
        num_correct / sum(len(record["gold"]["replies"]) for record in records)
    )
    assert all(
        match["correct"] == (match["similarity"] > 0.5) for record in records for match in record["reply_matches"]
    )
    num_gold = sum(len(one["transitions"]) for record in records for one in record["gold"]["updates"])
    assert num_gold == sum(
        len(turn["content"]) for clip in clips for turn in clip["conversation"] if turn["role"] == "DST_UPDATE"
    )
    assert matched["gold"] == matched["predicted"] == num_gold - result["transition/missed"]


def test_on_the_clock_and_beside_another_run(run, alone, tmp_path):
    """Its own evaluation beside it stands among the baselines; on the clock nothing comes earlier."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "evaluation").mkdir(exist_ok=True)
    (other / "evaluation/val-streaming.json").write_text(json.dumps(alone[1][1]["val-streaming.json"]))
    _, files = evaluate(run, tmp_path / "clock", None, 1, "--on-the-clock", "--compare", f"blind={other}")
    result, before = files["val-streaming.json"], alone[1][1]["val-streaming.json"]
    assert result["transition/f1"] == before["transition/f1"] == result["baselines"]["blind"]["transition/f1"]
    on_the_clock = result["on_the_clock"]
    assert 0 < on_the_clock["delay_s"] <= on_the_clock["delay_s_90"] <= on_the_clock["delay_s_most"]
    assert on_the_clock["real_time_factor"] == result["real_time_factor"]


def test_a_run_measured_otherwise_is_refused_before_anything_is_measured(run, alone, tmp_path, monkeypatch):
    for name in ("val-streaming", "val-teacher_forced"):
        path = tmp_path / "evaluation" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps((alone[0][1] | alone[1][1])[path.name]))
    for work in ("read_model", "_watch_all"):
        monkeypatch.setattr(f"dst_dist.evaluate.run.{work}", None)
    with own_logging():
        with pytest.raises(ConfigError, match=r"other: measured with eval.tolerance_s=2.0, here eval.tolerance_s=5.0"):
            stream_run(run, "val", ["eval.tolerance_s=5"], [("other", tmp_path)])
        for measure in (evaluate_run, stream_run):
            with pytest.raises(
                ConfigError, match=r"other: measured on other clips \(12 with eval.max_clips=null; here 3"
            ):
                measure(run, "val", ["eval.max_clips=3"], [("other", tmp_path)])


def test_names_of_columns_are_refused_before_anything_is_read(tmp_path, capsys):
    command = [
        "evaluate",
        str(tmp_path),
        *(word for name in ("never", "x", "x") for word in ("--compare", f"{name}={tmp_path}")),
    ]
    for more in ([], ["--streaming"]):
        with own_logging():
            assert cli.main([*command, *more]) == 2
        told = capsys.readouterr().err
        assert "--compare never: a column has this name" in told and "--compare x: given to 2 runs" in told


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


def test_some_clips_are_measured_as_if_there_were_no_others(run):
    """Three clips of 16 frames at 2 a second, of three of the four videos: 0.4 minutes."""
    with own_logging():
        result = evaluate_run(run, "val", ["eval.max_clips=3"])
    assert result["num_videos"] == 3 and {
        name: group["num_videos"] for name, group in result["by_dataset"].items()
    } == {"workshop": 1, "kitchen": 2}
    chance = result["baselines"]["chance"]
    expected = chance["dst_update/recall"] * result["num_dst_update_negatives"] / 0.4
    assert chance["dst_update/false_per_minute"] == pytest.approx(expected)
    num_false = (
        result["num_dst_update_positives"] * result["dst_update/recall"] * (1 / result["dst_update/precision"] - 1)
    )
    assert result["dst_update/false_per_minute"] == pytest.approx(num_false / 0.4)


def test_what_was_corrected_is_said_again(run, caplog):
    """In the training log stands what is true of the splits that training reads; of the test split, nothing."""
    with own_logging(), caplog.at_level("INFO", "dst_dist"):
        result = evaluate_run(run, "val", ["eval.max_clips=1"])
    assert "val: 1 DST_UPDATE turns joined with another of their frame" in caplog.messages
    assert result["num_videos_trained_on"] == 0 and not any("trained on" in line for line in caplog.messages)


def test_a_run_that_goes_on_is_not_evaluated_by_its_earlier_end(run):
    (run / ".goes-on").write_text("")
    with pytest.raises(ConfigError, match="goes on with another recipe"):
        evaluate_run(run, "val")
    (run / ".goes-on").unlink()


def test_videos_that_were_trained_on_are_told_of(run, caplog):
    """All of the training file are; of a run that does not say which, nobody knows."""
    words = ["eval.max_clips=1", "data.val=[kitchen/train_training.json, kitchen]"]
    with own_logging(), caplog.at_level("INFO", "dst_dist"):
        result = evaluate_run(run, "val", words)
        assert result["num_videos_trained_on"] == 3
        assert (
            "val: 3 of 5 videos were trained on, for example kitchen/frames/kitchen-train-0000.arrow" in caplog.messages
        )
        (run / "train_videos.txt").rename(run / "elsewhere")
        assert "num_videos_trained_on" not in evaluate_run(run, "val", words)
        (run / "elsewhere").rename(run / "train_videos.txt")
    assert any("nobody knows" in line for line in caplog.messages)


def test_a_stream_says_what_it_sees_otherwise_than_training(run, caplog):
    """A context of half a clip; a model that learned from the frames of turns alone."""
    with own_logging(), caplog.at_level("INFO", "dst_dist"):
        result = stream_run(run, "val", ["train.max_frames=8", "data.frames=event", "eval.max_clips=3"])
    (kind,) = (kind for kind in result["counts"] if kind.startswith("contexts that were full"))
    assert f"val, streamed: {result['counts'][kind]} {kind}" in caplog.messages and result["counts"][kind] >= 3
    assert sum("learned from the frames of turns alone" in line for line in caplog.messages) == 1


def test_clips_without_steps_change_no_number_of_updates(run):
    """The same predictions on the same clips, beside as many minutes in which nothing is asked about updates."""
    for evaluation in (evaluate_run, stream_run):
        with own_logging():
            alone, both = (
                evaluation(run, "val", [f"data.val=[{names}]"])
                for names in ("kitchen", "kitchen, proassist_demo/train.jsonl")
            )
        assert (
            both["num_videos"] > alone["num_videos"]
            and both["speaking/false_per_minute"] != alone["speaking/false_per_minute"]
        )
        ours, theirs = (
            updates_of(result) | {name: updates_of(values) for name, values in result["baselines"].items()}
            for result in (both, alone)
        )
        assert "dst_update/false_per_minute" in ours
        assert_close(ours, theirs)


def updates_of(result):
    kinds = (
        "dst_update",
        "transition",
        "update",
        "joint_goal_accuracy",
        "step_status_accuracy",
        "num_dst_update",
        "num_updates",
    )
    return {key: value for key, value in result.items() if key.startswith(kinds) and not key.endswith("ci95")}


def test_faults_are_told_once(run, tmp_path):
    done = launch(
        "cpu_ddp",
        ["--split", "train", "data.train=[]", "--compare", f"blind={tmp_path}"],
        tmp_path / "output",
        module=("dst_dist", "evaluate", str(run)),
    )
    assert (
        done.returncode != 0
        and done.output.count("not evaluated yet") == 1
        and 'Traceback (most recent call last):\n  File "/' not in done.output.split("not evaluated yet")[0]
    )
