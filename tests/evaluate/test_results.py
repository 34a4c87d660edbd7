"""The files of an evaluation and its table for people."""

import json

from dst_dist.evaluate.results import table, write_clips, write_result

RESULT = {
    "num_videos": 4,
    "transition/f1": 0.5,
    "transition/f1/ci95": [0.25, 0.75],
    "step_status_accuracy": 0.125,
    "on_the_clock": {"transition/f1": 0.375},
    "baselines": {"never": {"transition/f1": 0.0}, "a long name": {"step_status_accuracy": 1.0}},
}
KEYS = ["transition/f1", "transition/recall", "step_status_accuracy"]


def test_the_table_has_intervals_the_clock_and_baselines_and_leaves_out_absent_metrics():
    head, f1, accuracy = table(RESULT, KEYS)
    assert head.split() == ["model", "95", "%", "of", "4", "videos", "on", "clock", "never", "a", "long", "name"]
    assert f1.split() == ["transition/f1", "0.500", "0.250", "to", "0.750", "0.375", "0.000"]
    assert accuracy.split() == ["step_status_accuracy", "0.125", "1.000"]
    # Columns are as wide as the longest name, so that each number is below its column's.
    assert len(head) == len(f1) == len(accuracy)
    assert accuracy.index("1.000") + 5 == len(head) and head.index("never") + 5 == f1.index("0.000") + 5


def test_a_result_is_written_whole_and_printed(tmp_path, capsys):
    path = tmp_path / "evaluation" / "val-streaming.json"
    write_result(path, RESULT, KEYS)
    assert json.loads(path.read_text()) == RESULT
    assert capsys.readouterr().out.splitlines() == [*table(RESULT, KEYS), f"written to {path}"]


def test_records_of_clips_are_one_json_object_a_line(tmp_path):
    records = [{"id": "tea", "goal": "Tee für zwei"}, {"id": "cup"}]
    write_clips(tmp_path / "clips.jsonl", records)
    text = (tmp_path / "clips.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == records and "für" in text
