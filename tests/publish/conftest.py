"""Finished runs of four steps, LoRA and full, and one of them evaluated."""

import json
import logging

import pytest

from tests.train.finished import FULL, LORA, recipe_words
from tests.train.in_process import train


@pytest.fixture(scope="session")
def runs(demo_words, tmp_path_factory):
    """Folders of finished runs by mode; their validation losses have intervals."""
    folders = {}
    for mode, words in {"lora": LORA, "full": FULL}.items():
        folder = folders[mode] = tmp_path_factory.mktemp("publish") / mode
        assert train(recipe_words(demo_words, folder, *words, "data.train=[kitchen]", "data.val=[]")) == 0
    (folders["lora"] / "evaluation").mkdir()
    result = {"update/exact_match": 0.5, "update/exact_match/ci95": [0.25, 0.75], "num_clips": 3}
    (folders["lora"] / "evaluation/val-teacher_forced.json").write_text(json.dumps(result))
    return folders


@pytest.fixture(autouse=True)
def own_lines(caplog):
    """Keep the package's own log lines."""
    caplog.set_level(logging.INFO, logger="dst_dist")
