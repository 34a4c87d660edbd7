"""The commands on a finished run give what the run itself measured."""

import json

import pytest

from dst_dist import cli
from dst_dist.demo.world import OBJECTS, SLOTS
from dst_dist.evaluate.run import evaluate_run
from tests.train.finished import both, lines_of

pytestmark = pytest.mark.usefixtures("own_logging_of_test")


@both
def test_evaluate_gives_what_the_run_measured_at_its_end(earlier, capsys):
    result = evaluate_run(earlier, "val")
    last = lines_of(earlier, "val")[-1]
    for key in set(last) - {"step", "split"}:
        assert result[key] == pytest.approx(last[key], abs=1e-4), key
    assert result == json.loads((earlier / "evaluation/val-teacher_forced.json").read_text())
    assert "update/exact_match" in capsys.readouterr().out


@both
def test_evaluation_does_not_depend_on_packing(earlier):
    one = evaluate_run(earlier, "val", ["train.max_tokens=300"])
    packed = evaluate_run(earlier, "val", ["train.max_tokens=100000"])
    assert set(one) == set(packed)
    for key in (key for key, value in one.items() if not isinstance(value, dict)):
        assert one[key] == pytest.approx(packed[key], rel=1e-4, abs=1e-6), key


def test_another_split_is_measured_with_the_stored_thresholds(full):
    result = evaluate_run(full, "test", ["data.test=[kitchen]"])
    assert result["num_videos"] == 2
    assert result["dst_update/threshold"] == lines_of(full, "val")[-1]["dst_update/threshold"]
    assert evaluate_run(full, "val", ["eval.dst_threshold=0.9"])["dst_update/threshold"] == 0.9


def test_the_command_line_of_dst_dist(full, tmp_path, capsys, monkeypatch):
    assert cli.main(["evaluate", str(full), "--split", "test", "data.test=[kitchen]"]) == 0
    assert cli.main(["evaluate", str(full), "--split", "test", "data.test=[]"]) == 2
    assert "data.test is empty" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path / "none")]) == 2
    assert "not a finished run" in capsys.readouterr().err
    for words in (
        ["evaluate"],
        ["evaluate", "x", "--split", "dev"],
        ["evaluate", "x", "--splt=val"],
        ["demo", "x"],
        ["nothing"],
        [],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0


def test_demo_on_the_command_line(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("dst_dist.demo.make.make_demo", lambda out, **settings: made.append((out, settings)))
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--seed", "3", "--blank"]) == 0
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--world", "objects"]) == 0
    assert made == [
        (tmp_path / "demo", {"seed": 3, "blank": True, "world": SLOTS}),
        (tmp_path / "demo", {"seed": 0, "blank": False, "world": OBJECTS}),
    ]
    assert str(tmp_path / "demo") in capsys.readouterr().out
