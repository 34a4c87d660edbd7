"""Finished runs of four steps, LoRA and full, and one of them evaluated."""

import json
import logging

import pytest

from dst_dist.run_folder import RunFolder
from tests.train.finished import FULL, LORA, recipe_words
from tests.train.in_process import train

RESULT = {"update/exact_match": 0.5, "update/exact_match/ci95": [0.25, 0.75]}
BASIS = {"clips": "ab12", "num_clips": 3, "data.frames": "all", "eval.max_clips": 3}


@pytest.fixture(scope="session")
def runs(demo_words, tmp_path_factory):
    """Folders of finished runs by mode; their validation losses have intervals."""
    folders = {}
    for mode, words in {"lora": LORA, "full": FULL}.items():
        folder = folders[mode] = tmp_path_factory.mktemp("publish") / mode
        assert train(recipe_words(demo_words, folder, *words, "data.train=[kitchen]", "data.val=[]")) == 0
    (folders["lora"] / "evaluation").mkdir()
    weights = {"weights": RunFolder(folders["lora"]).weights_digest()}
    result = RESULT | {"measured_on": BASIS | weights}
    (folders["lora"] / "evaluation/val-teacher_forced.json").write_text(json.dumps(result))
    return folders


@pytest.fixture(autouse=True)
def own_lines(caplog):
    """Keep the package's own log lines."""
    caplog.set_level(logging.INFO, logger="dst_dist")
