"""Starts of several processes: the first one reads, the second maps what it kept, and both train the same run."""

import shutil

import pytest

from tests.starting import settle
from tests.train.runs import curve, cut_words

SAID = ("clips of", "epoch", "left out", "joined", "two splits", "corrected")


@pytest.fixture
def words(demo, tmp_path):
    """A root of this test's own, with a video of which frames are missing."""
    shutil.copytree(demo, tmp_path / "demo", ignore=shutil.ignore_patterns(".dst_dist"))
    next((tmp_path / "demo/kitchen/frames").glob("*train*.arrow")).unlink()
    settle(tmp_path / "demo")
    here = (f"model.name_or_path={tmp_path}/demo/model", f"data.root={tmp_path}/demo")
    return cut_words(here, "full", "data.on_missing=filter", "train.max_steps=2", "data.num_workers=2")


def said(run):
    """Return the lines logged about the data."""
    lines = [line.partition(" INFO ")[2] for line in run.output.splitlines()]
    return [line for line in lines if any(word in line for word in SAID)]


def test_a_second_start_of_two_processes_trains_the_same(words, tmp_path, starter):
    cache = tmp_path / "demo/.dst_dist"
    first = starter.run("cpu_ddp", words, tmp_path / "runs/1").check()
    kept = {path.name: path.read_bytes() for path in cache.iterdir()}
    second = starter.run("cpu_ddp", words, tmp_path / "runs/2").check()
    assert len([name for name in kept if name.endswith(".clips")]) == 2
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == kept
    assert curve(first.folder) == curve(second.folder)
    assert said(first) == said(second) and any("left out" in line for line in said(first))
    videos = [(run.folder / "train_videos.txt").read_text() for run in (first, second)]
    assert videos[0] == videos[1] != ""


def test_faults_found_by_the_main_process_end_all_of_them(words, tmp_path, starter):
    words = [*words, "data.on_missing=error"]
    refused = starter.run("cpu_ddp", words, tmp_path / "runs/1")
    assert refused.returncode == 2 and refused.status["code"] == 2
    assert refused.output.count("DataError: ") == 1 and "no such file" in refused.output
