"""Ends of a start: the content of status.json, and the rest of an earlier run."""

import json
import shutil

import numpy as np
import pytest

from dst_dist.recipes.loading import load_recipe
from tests.train.finished import FULL, LORA, both, lines_of, recipe_words
from tests.train.in_process import train
from tests.train.runs import status_of

pytestmark = pytest.mark.usefixtures("own_logging_of_test")


@both
def test_the_recipe_can_be_loaded_again_and_is_the_same(earlier, demo_words):
    words = recipe_words(demo_words, earlier, *(FULL if earlier.name == "full" else LORA))
    assert load_recipe([str(earlier / "config.yaml")]) == load_recipe(words)


@both
def test_the_status_of_a_finished_run(earlier):
    assert status_of(earlier) == {"code": 0, "reason": "done", "step": 4}


@both
def test_nothing_in_the_folder_is_pickled(earlier):
    files = [path for path in earlier.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.suffix for path in files} <= {".yaml", ".json", ".jsonl", ".log", ".txt", ".safetensors"}
    # Pickles, and the zip files that torch.save makes.
    assert not [
        path for path in files if path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    ]


def test_run_folder_and_status_file_are_where_a_shell_would_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    words = ["demo", "data.root=$SCRATCH/[1e3]: #", "model.name_or_path=~/model"]
    assert train([*words, "output_dir=~/runs/1e3", "--status-file", "$SCRATCH/status.json"]) == 2
    assert (tmp_path / "home/runs/1e3").is_dir()
    reason = status_of(tmp_path / "scratch")["reason"]
    assert f"{tmp_path}/home/model" in reason and f"{tmp_path}/scratch/[1e3]: #" in reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "scratch"]


def test_a_crash_is_in_the_status_until_the_next_start(demo_words, tmp_path, monkeypatch, capsys):
    from dst_dist.train import loop

    folder, seen = tmp_path / "run", []
    intact = loop.optimizer_step

    def crash(*arguments):
        seen.append((folder / "status.json").exists())
        if len(seen) == 3:
            raise RuntimeError("the disk is on fire")
        return intact(*arguments)

    monkeypatch.setattr(loop, "optimizer_step", crash)
    assert train(recipe_words(demo_words, folder)) == 1
    assert status_of(folder) == {"code": 1, "reason": "RuntimeError: the disk is on fire", "step": 2}
    assert "Traceback" in capsys.readouterr().err
    assert not (folder / "final").exists()
    # While the same command runs again, there is no status of the crash.
    assert train(recipe_words(demo_words, folder)) == 0
    assert seen[3] is False
    assert status_of(folder)["code"] == 0


@pytest.mark.parametrize("between", [(), ("train.max_steps=0",)], ids=["done", "after bad input"])
def test_a_finished_run_that_is_started_again_keeps_its_step(full, demo_words, between):
    if between:
        assert train(recipe_words(demo_words, full, *FULL, *between)) == 2
    assert train(recipe_words(demo_words, full, *FULL)) == 0
    assert status_of(full) == {"code": 0, "reason": "done", "step": 4}


def test_a_finished_run_without_its_metrics_is_still_done(full, demo_words, tmp_path):
    shutil.copytree(full, tmp_path / "run", symlinks=True)
    for content in ("", "\0\0", '{"step": 4}\n{"st'):
        (tmp_path / "run/metrics.jsonl").write_text(content)
        assert train(recipe_words(demo_words, tmp_path / "run", *FULL)) == 0
        assert status_of(tmp_path / "run")["code"] == 0


def test_bad_input_changes_only_the_status_of_an_earlier_run(full, demo_words):
    before = {path: path.read_bytes() for path in full.rglob("*") if path.is_file() and path.name != "status.json"}
    status = (full / "status.json").read_text()
    assert train(recipe_words(demo_words, full, "train.max_steps=0")) == 2
    assert status_of(full)["code"] == 2
    assert {
        path: path.read_bytes() for path in full.rglob("*") if path.is_file() and path.name != "status.json"
    } == before
    (full / "status.json").write_text(status)


@pytest.mark.parametrize("words", [["dmeo.yaml"], ["lora", "output_dir="], ["lora", "--output-dir", "runs/mine"], []])
def test_a_recipe_without_a_run_folder_touches_no_folder(tmp_path, monkeypatch, capsys, words):
    """Not even the default folder, where another run may be finished."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "status").write_text("of an earlier start")
    assert train([*words, "--status-file", "status"]) == 2
    assert "ConfigError: " in capsys.readouterr().err
    status = json.loads((tmp_path / "status").read_text())
    assert (status["code"], status["step"]) == (2, 0) and status["reason"]
    assert [path.name for path in tmp_path.iterdir()] == ["status"]
    assert train(words) == 2


def test_the_same_recipe_gives_the_same_run(full, demo_words, tmp_path):
    assert train(recipe_words(demo_words, tmp_path / "again", *FULL)) == 0
    losses = [[line["loss"] for line in lines_of(folder, "train")] for folder in (full, tmp_path / "again")]
    assert losses[0] == losses[1] and np.all(np.isfinite(losses[0]))
