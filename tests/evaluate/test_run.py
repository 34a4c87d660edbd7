"""Both evaluations of a run: what a result holds, what is measured on which clips, and what is logged."""

import errno
import json
import shutil

import pytest

from dst_dist import cli
from dst_dist.data.batching import Draw
from dst_dist.data.conversation import arrange
from dst_dist.errors import ConfigError
from dst_dist.evaluate.compare import TAKEN_NAMES
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.evaluate.run import evaluate_run, stream_run
from dst_dist.run_folder import RunFolder
from tests.evaluate.evaluating import assert_close, trained_one_step
from tests.refusing import refused
from tests.train.in_process import own_logging


def test_results_and_tables_hold_metrics_groups_and_baselines(alone):
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
    # The share of positives in training is stored with the model.
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


def test_a_result_says_what_it_was_measured_on(run, alone):
    """Both kinds have the same weights and fingerprint of the clips, and the settings that change their numbers."""
    forced, streamed = (
        alone[0][1]["val-teacher_forced.json"]["measured_on"],
        alone[1][1]["val-streaming.json"]["measured_on"],
    )
    weights = RunFolder(run).weights_digest()
    assert weights is not None and alone[1][1]["val-streaming-clips.jsonl"][0]["weights"] == weights
    both = {
        "weights": weights,
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


def test_a_compared_run_measured_differently_raises_before_anything_is_measured(run, alone, tmp_path, monkeypatch):
    for name in ("val-streaming", "val-teacher_forced"):
        path = tmp_path / "evaluation" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps((alone[0][1] | alone[1][1])[path.name]))
    # The same weights, measured otherwise.
    (tmp_path / "final").mkdir()
    shutil.copy(run / "final/config.json", tmp_path / "final")
    for work in ("readings.read_model", "_watch_all"):
        monkeypatch.setattr(f"dst_dist.evaluate.run.{work}", None)
    with own_logging():
        with pytest.raises(ConfigError, match=r"other: measured with eval.tolerance_s=2.0, here eval.tolerance_s=5.0"):
            stream_run(run, "val", ["eval.tolerance_s=5"], [("other", tmp_path)])
        for measure in (evaluate_run, stream_run):
            with pytest.raises(
                ConfigError, match=r"other: measured on other clips \(12 with eval.max_clips=null; here 3"
            ):
                measure(run, "val", ["eval.max_clips=3"], [("other", tmp_path)])


def test_a_taken_name_raises_before_anything_is_read(tmp_path, capsys):
    command = [
        "evaluate",
        str(tmp_path),
        *(word for name in ("never", "x", "x") for word in ("--compare", f"{name}={tmp_path}")),
    ]
    for more in ([], ["--streaming"]):
        with own_logging():
            assert cli.main([*command, *more]) == 2
        output = capsys.readouterr().err
        assert "--compare never: a column has this name" in output and "--compare x: given to 2 runs" in output


def test_a_folder_that_takes_no_results_is_said_before_anything_is_measured(run, monkeypatch):
    monkeypatch.setattr("dst_dist.evaluate.run.baselines", None)
    with refused("replace", errno.EPERM, run), pytest.raises(ConfigError, match="RUN: in .* it is not possible"):
        evaluate_run(run, "val")


def test_with_max_clips_minutes_and_videos_are_those_of_the_chosen_clips(run):
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


def test_corrections_of_the_split_are_logged(run, caplog):
    """The training log has those of the splits that training reads, not of the test split."""
    with own_logging(), caplog.at_level("INFO", "dst_dist"):
        result = evaluate_run(run, "val", ["eval.max_clips=1"])
    assert "val: 1 DST_UPDATE turns joined with another of their frame" in caplog.messages
    assert result["num_videos_trained_on"] == 0 and not any("trained on" in line for line in caplog.messages)


def test_a_run_that_continues_with_another_recipe_raises(run):
    (run / ".goes-on").write_text("")
    with pytest.raises(ConfigError, match="goes on with another recipe"):
        evaluate_run(run, "val")
    (run / ".goes-on").unlink()


def test_videos_that_were_trained_on_are_counted_and_logged(run, caplog):
    """All videos of the training file were; without the list of training videos the number is unknown."""
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
    assert any("it is unknown" in line for line in caplog.messages)


def test_clips_without_steps_change_no_metric_of_updates(run):
    """The same predictions on the same clips, and other minutes in which no update is decided."""
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
    """Return the metrics of updates."""
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


def test_evaluation_of_the_training_split_counts_every_negative(demo_words, tmp_path):
    with own_logging():
        folder = trained_one_step(demo_words, tmp_path / "run", "labels.neg_frame_sampling_rate=0.1")
        result = evaluate_run(folder, "train")
    run = FinishedRun.open(folder, "train")
    counts = run.data.counts([Draw(index, 0) for index in range(len(run.data))], 0)
    groups = [group for clip in run.data.clips.index for group in arrange(clip, "continuous", "last")]
    negatives = sum(d["dst_update"] == 0 for group in groups for d in (group.decision, *group.user_decisions))
    assert result["num_dst_update_negatives"] == counts["dst_update_negatives"] == negatives > 100
