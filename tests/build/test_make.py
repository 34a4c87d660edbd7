"""The whole way from raw dialogs to clips that training reads, and the gold of the three examples."""

import json

import pytest

from dst_dist.build.make import build
from tests.build.raw import EXAMPLES, NAMES, read_strictly
from tests.build.scoring import f1, overlap, read_transitions

LEAST = 0.95


@pytest.mark.parametrize("name", NAMES)
def test_an_examples_gold_is_found_and_read_strictly(name, tmp_path):
    built = build([EXAMPLES / f"{name}.raw.json"], tmp_path)
    gold = json.loads((EXAMPLES / f"{name}.gold.json").read_text())
    true = [(change["time"], change["id"], change["transition"]) for change in gold["transitions"]]
    steps = {step["id"]: step["name"] for step in gold["steps"]}
    (clips,) = built.files.values()
    for clip in clips:
        assert {step["id"]: step["name"] for step in clip["dst"]} == steps
        found = read_transitions([clip])
        assert overlap(true, found, list(steps), true[-1][0]) >= LEAST
        assert f1(true, found) >= LEAST
    assert read_strictly(tmp_path, built) == []
    assert built.report.lines() == []
