"""Stopping on request: in any phase, on all processes together, saved, and resumed to the same result."""

import os
import signal
import time

import psutil
import pytest

from dst_dist.train import loop, validation
from dst_dist.train.stop import ONE_REQUEST_S
from tests import launching
from tests.train.forking import wait_for
from tests.train.in_process import train
from tests.train.killing import AT_WORK, POINTS, Faults, installed
from tests.train.runs import IN_BACKGROUND, IN_FOREGROUND, assert_same_run, cut_words, status_of

STOPPED = {"code": 85, "reason": "stopped on request; the same command continues"}


@pytest.fixture(scope="module")
def words(demo_words):
    return cut_words(demo_words)


@pytest.fixture(scope="module")
def straight(words, tmp_path_factory):
    """One process, never stopped."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert train([*words, f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def straight_on_two(starter, words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    starter.run("cpu_ddp", words, folder).check()
    return folder


def continues(words, folder, straight, step):
    """Check that it stopped after this step, and that the same command finishes it."""
    assert status_of(folder) == {**STOPPED, "step": step}
    assert (folder / "last").resolve().name == f"step-{step:08d}"
    assert not (folder / "STOP").exists()
    assert train([*words, f"output_dir={folder}"]) == 0
    assert_same_run(folder, straight)


# In this process: from each phase


def test_present_at_the_start(words, straight, tmp_path):
    """Saved before the first step; nothing was trained."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/STOP").touch()
    assert train([*words, f"output_dir={tmp_path}/run"]) == 85
    assert not (tmp_path / "run/metrics.jsonl").read_text()
    continues(words, tmp_path / "run", straight, 0)


def test_again_before_a_continued_run_has_made_a_step(words, straight, tmp_path):
    folder = tmp_path / "run"
    for after in (2, 0):
        with installed(Faults(lambda: (folder / "STOP").touch(), AT_WORK, 4 * after)):
            if not after:
                (folder / "STOP").touch()
            assert train([*words, f"output_dir={folder}"]) == 85
    continues(words, folder, straight, 2)


@pytest.mark.parametrize("number, way", [(signal.SIGTERM, IN_BACKGROUND), (signal.SIGUSR1, IN_FOREGROUND)])
@pytest.mark.parametrize("point, nth, step", [(AT_WORK, 5, 2), ("inside file", 2, 2), ("before prune", 3, 3)])
def test_a_signal_in_accumulation_or_saving(words, straight, tmp_path, number, way, point, nth, step):
    """Sent in accumulation it ends with this step, sent in a save with the next: within one step."""
    words = [*words, way]
    # In the background a save is completed after the next step.
    step += way == IN_BACKGROUND and point == "before prune"
    with installed(Faults(lambda: os.kill(os.getpid(), number), point, nth)):
        assert train([*words, f"output_dir={tmp_path}/run"]) == 85
    ended = status_of(tmp_path / "run")["step"]
    assert step <= ended <= step + (point != AT_WORK)
    continues(words, tmp_path / "run", straight, ended)


def test_a_signal_in_the_start_up(words, straight, tmp_path, monkeypatch):
    """While the model loads, before there is a run folder to save to."""
    intact = loop.load_model

    def load_model(recipe):
        os.kill(os.getpid(), signal.SIGTERM)
        return intact(recipe)

    monkeypatch.setattr(loop, "load_model", load_model)
    assert train([*words, f"output_dir={tmp_path}/run"]) == 85
    monkeypatch.setattr(loop, "load_model", intact)
    continues(words, tmp_path / "run", straight, 0)


def test_a_signal_in_the_evaluation(words, straight, tmp_path, monkeypatch):
    """It is cut short, and done again at the next start."""
    intact, forwards = validation.forward, []

    def forward(*arguments):
        forwards.append(1)
        if len(forwards) == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return intact(*arguments)

    monkeypatch.setattr(validation, "forward", forward)
    assert train([*words, f"output_dir={tmp_path}/run"]) == 85
    assert len(forwards) == 2
    monkeypatch.setattr(validation, "forward", intact)
    continues(words, tmp_path / "run", straight, 3)


def test_asked_after_the_last_step_it_is_done_at_the_next_start(words, straight, tmp_path):
    folder = tmp_path / "run"
    with installed(Faults(lambda: (folder / "STOP").touch(), "after state", 7)):
        assert train([*words, f"output_dir={folder}"]) == 0
    assert not (folder / "STOP").exists()
    assert_same_run(folder, straight)


# Two processes


def stop_signals(job, numbers, rank):
    """Signals to one process, or to all where `rank` is None."""
    for number in numbers:
        for pid in job.pids if rank is None else [job.pids[rank]]:
            os.kill(pid, number)


@pytest.mark.parametrize("rank", [1, None], ids=["one", "all"])
def test_a_signal_to_workers_stops_all_together(starter, words, straight_on_two, tmp_path, rank):
    folder = tmp_path / "run"
    job = starter.start("cpu_ddp", [*words, "data.num_workers=1"], folder)
    wait_for((folder / "checkpoints/step-00000002").is_dir)
    # Two at once are one request.
    stop_signals(job, [signal.SIGTERM, signal.SIGTERM if rank else signal.SIGUSR1], rank)
    ended = job.wait()
    assert ended.returncode == 85, ended.output[-3000:]
    assert ended.status == {**STOPPED, "step": ended.status["step"]} and 2 <= ended.status["step"] <= 4
    starter.run("cpu_ddp", words, folder).check()
    assert_same_run(folder, straight_on_two)


def test_a_second_signal_leaves_at_once_without_harm(starter, words, straight_on_two, tmp_path):
    folder = tmp_path / "run"
    # Slow enough to be still there for the second one.
    job = starter.start("cpu_ddp", [*words, "train.max_frames=16"], folder, module=("tests.train.slow",))
    wait_for((folder / "checkpoints/step-00000001").is_dir)
    stop_signals(job, [signal.SIGTERM], None)
    time.sleep(ONE_REQUEST_S + 0.2)
    began = time.monotonic()
    stop_signals(job, [signal.SIGTERM], None)
    ended = job.wait()
    assert time.monotonic() - began < 3
    assert ended.returncode == 1
    assert ended.status["code"] == 1 and "second signal" in ended.status["reason"]
    starter.run("cpu_ddp", words, folder).check()
    assert_same_run(folder, straight_on_two)


# The real launcher


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_the_launcher_is_told_to_end(words, straight_on_two, starter, tmp_path, number):
    """SIGTERM, which it passes on, or Ctrl-C, is harmless. (30 s after SIGTERM it kills: see test_loop_kill.py.)"""
    folder = tmp_path / "run"
    with launching.launcher(words, folder) as launcher:
        wait_for(lambda: launcher.poll() is not None or (folder / "checkpoints/step-00000002").is_dir())
        workers = psutil.Process(launcher.pid).children(recursive=True)
        launcher.send_signal(number)
        launcher.wait(60)
        assert not psutil.wait_procs(workers, timeout=10)[1], "workers outlive the launcher"
    assert launcher.returncode != 0
    if number == signal.SIGTERM:
        assert status_of(folder)["code"] == 85
    starter.run("cpu_ddp", words, folder).check()
    assert_same_run(folder, straight_on_two)


@pytest.mark.long
def test_killed_30_seconds_after_sigterm(starter, words, straight_on_two, tmp_path):
    """Workers that do not reach their next step in time get SIGKILL from the launcher, which is harmless."""
    folder = tmp_path / "run"
    with launching.launcher(words, folder, "tests.train.slow", SLOW_S="100") as launcher:
        wait_for(lambda: launcher.poll() is not None or (folder / "checkpoints/step-00000001").is_dir())
        began = time.monotonic()
        launcher.send_signal(signal.SIGTERM)
        launcher.wait(90)
        assert 25 < time.monotonic() - began < 60
    starter.run("cpu_ddp", words, folder).check()
    assert_same_run(folder, straight_on_two)


def test_there_is_a_point_for_every_write():
    assert len(POINTS) == len(set(POINTS)) and AT_WORK not in POINTS
