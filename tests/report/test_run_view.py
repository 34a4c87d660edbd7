"""A run folder as the page shows it."""

import pytest

from dst_dist.errors import ConfigError
from dst_dist.metrics import how_measured
from dst_dist.report.run_view import read_run
from tests.report.make_run import make_run, trained, write_evaluation


def test_the_last_line_of_a_step_counts(tmp_path):
    run = trained(tmp_path / "run", num_steps=3)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "split": "train", "loss": 0.5, "grad_norm": NaN}\n3\n{"step": 4, "spl')
    data = read_run(run)
    assert data["training"]["series"]["loss"] == {"train": [(1, 8.0), (2, 4.0), (3, 0.5)], "val": [(3, 2.0)]}
    assert "grad_norm" not in data["training"]["series"] and data["notes"] == [
        "2 lines of metrics.jsonl could not be read."
    ]


def test_a_long_run_is_thinned_with_a_note(tmp_path):
    data = read_run(trained(tmp_path / "run", num_steps=2500))
    assert len(data["training"]["series"]["loss"]["train"]) <= 1000 and data["training"]["thinned_from"] == 2500


def test_the_header_is_read_from_recipe_and_status(tmp_path):
    data = read_run(trained(tmp_path / "run"))
    assert (data["name"], data["model"], data["mode"]) == ("run", "tiny", "lora")
    assert data["data"] == {"train": ["kitchen"], "val": [], "test": ["kitchen x2"]}
    assert data["status"] == {"step": 3, "code": 0, "reason": "done"}


def test_the_step_of_a_running_training_is_its_last_logged_one(tmp_path):
    run = trained(tmp_path / "run")
    (run / "status.json").unlink()
    assert read_run(run)["status"] == {"step": 3}


def test_evaluations_are_read_streamed_ones_first(tmp_path):
    evaluations = read_run(make_run(tmp_path / "run"))["evaluations"]
    assert [(one["split"], one["kind"]) for one in evaluations] == [("test", "streaming"), ("test", "teacher_forced")]
    assert evaluations[1]["measured"] == how_measured({})
    assert evaluations[1]["result"]["update/exact_match"] == 0.5


def test_a_folder_that_is_no_run_raises_with_advice(tmp_path):
    with pytest.raises(ConfigError, match="not a run folder, there is no config.yaml; name the output_dir"):
        read_run(tmp_path)


def test_an_evaluation_of_a_model_that_was_replaced_is_left_out_with_a_note(tmp_path):
    run = make_run(tmp_path / "run")
    write_evaluation(run, "test-streaming", {"measured_on": {"weights": "old"}})
    data = read_run(run)
    assert [one["kind"] for one in data["evaluations"]] == ["teacher_forced"]
    assert len(data["notes"]) == 1 and "test-streaming.json is left out" in data["notes"][0]
