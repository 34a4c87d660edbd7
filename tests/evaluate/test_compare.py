"""Comparing runs: what both must have been measured on, and which names are free."""

import json

import pytest

from dst_dist import config
from dst_dist.data.dataset import read_split
from dst_dist.demo.make import make_demo
from dst_dist.errors import ConfigError
from dst_dist.evaluate.compare import fingerprint, metrics_of_others, read_others
from dst_dist.run_folder import RunFolder
from tests.conftest import SMALL
from tests.data.dialogs import make_clip, reply, update, user

OURS = {
    "clips": "ab12",
    "num_clips": 12,
    "eval.tolerance_s": 2.0,
    "eval.similarity": "lexical",
    "eval.max_clips": None,
    "eval.on_full_context": "carry_state",
    "dst_update/threshold": 0.5,
}
TURNS = (user(1), update(2), reply(3))


def other_run(folder, result):
    path = RunFolder(folder).result_file("val", "streaming")
    path.parent.mkdir(parents=True)
    path.write_text(result if isinstance(result, str) else json.dumps(result))
    return folder


def test_plain_numbers_of_a_run_measured_alike_are_returned():
    """Thresholds and the treatment of full contexts may differ."""
    alike = OURS | {"eval.on_full_context": "drop_all", "dst_update/threshold": 0.25, "eval.max_clips": 100}
    other = {
        "transition/f1": 0.5,
        "num_videos": 4,
        "transition/f1/ci95": [0.25, 0.75],
        "reply/similarity": "lexical",
        "measured_on": alike,
    }
    assert metrics_of_others({"other": other}, OURS, "val") == {"other": {"transition/f1": 0.5, "num_videos": 4}}


def test_all_differences_are_named_with_what_to_do():
    fewer = {"measured_on": OURS | {"clips": "cd34", "num_clips": 3, "eval.max_clips": 3}}
    wider = {"measured_on": OURS | {"eval.tolerance_s": 5.0, "eval.similarity": "some/model"}}
    with pytest.raises(ConfigError) as caught:
        metrics_of_others({"fewer": fewer, "wider": wider}, OURS, "val")
    assert caught.value.faults == (
        "--compare fewer: measured on other clips (3 with eval.max_clips=3; here 12 with eval.max_clips=null); "
        "evaluate it again with this run's data.val and eval.max_clips=null",
        "--compare wider: measured with eval.tolerance_s=5.0, here eval.tolerance_s=2.0; "
        "evaluate it again with eval.tolerance_s=2.0",
        "--compare wider: measured with eval.similarity=some/model, here eval.similarity=lexical; "
        "evaluate it again with eval.similarity=lexical",
    )


def test_faulty_names_and_results_are_reported_together(tmp_path):
    good = other_run(tmp_path / "good", {"measured_on": OURS})
    older, broken = other_run(tmp_path / "older", {"transition/f1": 0.5}), other_run(tmp_path / "broken", "{")
    named = [
        ("never", good),
        ("x", good),
        ("x", good),
        ("old", older),
        ("cut", broken),
        ("none", tmp_path),
        ("model", good),
        ("fine", good),
    ]
    with pytest.raises(ConfigError) as caught:
        read_others(named, "val", "streaming")
    assert [fault.split(":")[0] for fault in caught.value.faults[:3]] == [
        "--compare never",
        "--compare x",
        "--compare model",
    ]
    assert "given to 2 runs" in caught.value.faults[1]
    paths = [fault.removeprefix(str(tmp_path)) for fault in caught.value.faults[3:]]
    assert [fault.split(":")[0] for fault in paths] == [
        "/older/evaluation/val-streaming.json",
        "/broken/evaluation/val-streaming.json",
        "",
    ]
    assert all("evaluate it again" in fault for fault in paths[:2]) and "not evaluated yet" in paths[2]
    assert list(read_others(named[-1:], "val", "streaming")) == ["fine"]


def test_a_fingerprint_depends_on_gold_turns_only():
    first, second = make_clip(*TURNS), make_clip(*TURNS, id="kitchen/tea/1", start=8, end=16)
    known = fingerprint([first, second])
    assert known == fingerprint([second, first]) != fingerprint([first]) != fingerprint([first, first])
    changed = [
        make_clip(*TURNS, end=9),
        make_clip(*TURNS, id="other"),
        make_clip(*TURNS, dataset="ego4d"),
        make_clip(*TURNS, fps=4.0),
        make_clip(user(1), update(2, "S1 complete"), reply(3)),
        make_clip(user(1), update(2), reply(3, "No.")),
        make_clip(user(0), update(2), reply(3)),
        make_clip(user(1), update(2), reply(4)),
        make_clip(*TURNS, initial_state={"S1": "paused"}),
    ]
    known = [fingerprint([one]) for one in (first, *changed)]
    assert len(set(known)) == len(changed) + 1
    reworded = make_clip(
        user(1, "And now?"), *TURNS[1:], frames_path="/else.arrow", video="moved/tea.arrow", prompt="Help.", goal="Tea"
    )
    assert fingerprint([reworded]) == known[0]


def test_the_demo_on_blank_frames_has_the_same_clips(demo, tmp_path):
    """So the blind control can be compared; the frames of the two demos are in different folders."""
    make_demo(tmp_path, blank=True, sizes=SMALL, workers=1)
    for split, datasets in (("val", ["workshop"]), ("test", ["garden"])):
        here, there = (
            fingerprint(read_split(config.Data(root=str(root), **{split: datasets}), split).index)
            for root in (demo, tmp_path)
        )
        assert here == there


def test_a_result_of_a_model_that_was_replaced_is_refused(tmp_path):
    other = other_run(tmp_path / "other", {"measured_on": OURS | {"weights": "old"}})
    with pytest.raises(ConfigError, match="val-streaming.json: .*final/ has replaced.*again"):
        read_others([("other", other)], "val", "streaming")
