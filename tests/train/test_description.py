"""Warnings of a run before its first step."""

import pytest

from dst_dist.train import description
from tests.train.in_process import train

NEVER_AT_ITS_PEAK = "optim.warmup_steps 3: the rate never reaches its peak in 2 steps"


def warnings_of(capsys, demo_words, folder, *words):
    short = ("train.max_steps=2", "train.global_batch_size=2", "data.val=[]", "data.num_workers=0", "log.report_to=[]")
    assert train(["demo", *demo_words, *short, *words, f"output_dir={folder}"]) == 0
    return [line.split(" WARNING ")[1] for line in capsys.readouterr().out.splitlines() if " WARNING " in line]


@pytest.mark.parametrize("steps, expected", [(1, []), (2, []), (3, [NEVER_AT_ITS_PEAK])])
def test_a_warm_up_that_never_ends(capsys, demo_words, tmp_path, steps, expected):
    assert warnings_of(capsys, demo_words, tmp_path / "run", f"optim.warmup_steps={steps}") == expected


def test_rates_of_0(capsys, demo_words, tmp_path):
    words = ["optim.learning_rate=0", "optim.warmup_steps=0"]
    assert warnings_of(capsys, demo_words, tmp_path / "1", *words) == ["every learning rate is 0: nothing is learned"]
    assert warnings_of(capsys, demo_words, tmp_path / "2", *words, "optim.head_learning_rate=1e-4") == []


def test_processes_that_wait_for_the_slowest(capsys, demo_words, tmp_path, monkeypatch):
    monkeypatch.setattr(description, "slowest_over_mean", lambda *_: 3.3)
    (warning,) = warnings_of(capsys, demo_words, tmp_path / "run", "optim.warmup_steps=0")
    assert warning.startswith("processes wait: the slowest has 3.3 times the mean work, with 2 samples a step on 1 ")
    assert "train.global_batch_size" in warning and "data.max_seq_len" in warning


def test_the_number_of_data_workers_is_logged_and_auto_stays_in_the_recipe(capsys, demo_words, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100")
    words = ("optim.warmup_steps=0", "data.num_workers=auto")
    assert warnings_of(capsys, demo_words, tmp_path / "run", *words) == []
    assert "data.num_workers: auto is 1 for each process" in (tmp_path / "run/train.log").read_text()
    assert "num_workers: auto" in (tmp_path / "run/config.yaml").read_text()
