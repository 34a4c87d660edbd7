"""A run's adapter whose base was moved."""

import shutil

import pytest

from dst_dist.errors import CheckpointError, ConfigError, DataError
from dst_dist.evaluate.open_run import FinishedRun
from tests.model.test_adapters import replace_base
from tests.train.in_process import own_logging, train


def trained(demo, demo_words, folder, mode):
    """Train one step from a copy of the demo's model in `folder`; return the run."""
    shutil.copytree(demo / "model", folder / "base")
    words = [
        "demo",
        *demo_words,
        f"model.name_or_path={folder}/base",
        f"finetune.mode={mode}",
        "finetune.train.vision=false",
        "train.max_steps=1",
        "train.global_batch_size=2",
        "data.val=[]",
        "log.report_to=[]",
        f"output_dir={folder}/run",
    ]
    with own_logging():
        assert train(words) == 0
    return folder / "run"


def test_an_override_names_a_base_that_was_moved(demo, demo_words, tmp_path):
    run, moved = trained(demo, demo_words, tmp_path, "lora"), tmp_path / "moved"
    (tmp_path / "base").rename(moved)
    with pytest.raises(DataError) as fault:
        FinishedRun.open(run, "test")
    assert f"final/adapter_config.json: the base_model_name_or_path {tmp_path}/base is neither a folder here" in str(
        fault.value
    )
    assert "evaluate and stream take model.name_or_path=PLACE" in str(fault.value) and "hf download" not in str(
        fault.value
    )
    words = [f"model.name_or_path={moved}"]
    FinishedRun.open(run, "test", words)
    with pytest.raises(DataError, match="nowhere is neither a folder here"):
        FinishedRun.open(run, "test", ["model.name_or_path=/nowhere"])
    replace_base(moved)
    with pytest.raises(CheckpointError, match=f"its base {moved} holds other weights"):
        FinishedRun.open(run, "test", words)


def test_a_full_run_takes_no_other_model(demo, demo_words, tmp_path):
    run = trained(demo, demo_words, tmp_path, "full")
    with pytest.raises(ConfigError, match="model.name_or_path: .*final holds a full model"):
        FinishedRun.open(run, "test", [f"model.name_or_path={demo}/model"])
