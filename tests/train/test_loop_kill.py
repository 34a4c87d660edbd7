"""Kill a training of two processes anywhere and start the same command again: the result is the same.

A few kills; with `--long` at every point of a save on every process, and at random instants.
"""

import errno
import json
import os
import random
import shutil
import time

import psutil
import pytest

from tests import launching
from tests.launching import launch
from tests.train.forking import wait_for
from tests.train.in_process import train
from tests.train.killing import AT_WORK, NOT_ON_MAIN, POINTS, Faults, installed
from tests.train.runs import IN_BACKGROUND, IN_FOREGROUND, assert_same_run, cut_words, status_of

WITH_FAULTS = ("tests.train.killing",)
ALL_FAULTS = [(point, rank) for point in POINTS for rank in ((0, 1) if point in NOT_ON_MAIN else (0,))]
RANDOM_KILLS = 30
NTH = {"inside prune": 2, "inside final": 1, "before link best": 1, "inside link best": 1, "after link best": 1}
"""At which passing of a point the fault is injected: the third by default, the first where a run passes only once."""


@pytest.fixture(scope="module")
def words(demo_words):
    return cut_words(demo_words, "lora", "checkpoint.keep=2")


@pytest.fixture(scope="module")
def straight(starter, words, tmp_path_factory):
    """The folder of a run without faults, whose points are checked."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    log = folder.with_name("faults.log")
    starter.run("cpu_ddp", words, folder, module=WITH_FAULTS, env={"FAULT_LOG": str(log)}).check()
    passed = {tuple(line.split(" ", 1)) for line in log.read_text().splitlines()} - {("0", AT_WORK), ("1", AT_WORK)}
    assert passed == {(str(rank), point) for point, rank in ALL_FAULTS}, "the list of points is complete"
    return folder


def assert_hit(starter, words, folder, point, rank, kind, nth):
    """Start with a fault and check that it ended the training there."""
    log = folder.with_name("faults.log")
    log.unlink(missing_ok=True)
    env = {"FAULT": f"{kind}:{point}:{rank}:{nth}", "FAULT_LOG": str(log)}
    ended = starter.run("cpu_ddp", words, folder, module=WITH_FAULTS, env=env)
    assert ended.returncode == (-9 if kind == "kill" else 1), ended.output[-3000:]
    assert log.read_text().splitlines().count(f"{rank} {point}") == nth
    return ended


FEW = [("inside file", 1), ("before manifest", 0), ("inside prune", 0)]


@pytest.mark.parametrize("way", [IN_BACKGROUND, IN_FOREGROUND])
def test_killed_at_a_few_points(starter, words, straight, tmp_path, way):
    """One run is killed three times, each time later."""
    words = [*words, way]
    for point, rank in FEW:
        assert_hit(starter, words, tmp_path / "run", point, rank, "kill", 2)
    starter.run("cpu_ddp", words, tmp_path / "run").check()
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.parametrize("way", [IN_BACKGROUND, IN_FOREGROUND])
def test_a_full_disk_on_the_other_process(starter, words, straight, tmp_path, way):
    words = [*words, way]
    ended = assert_hit(starter, words, tmp_path / "run", "after state", 1, "full", 3)
    assert status_of(tmp_path / "run")["code"] == 1
    assert "No space left on device" in status_of(tmp_path / "run")["reason"]
    assert "No space left on device" in ended.output
    starter.run("cpu_ddp", words, tmp_path / "run").check()
    assert_same_run(tmp_path / "run", straight)


def test_a_process_that_fails_alone_drops_the_save_whole(starter, words, straight, tmp_path):
    """The others cannot complete it without that process."""
    assert_hit(starter, words, tmp_path / "run", AT_WORK, 1, "full", 6)
    assert (tmp_path / "run/last").resolve().name == "step-00000002", "its fourth step failed"
    starter.run("cpu_ddp", words, tmp_path / "run").check()
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.long
@pytest.mark.parametrize("way", [IN_BACKGROUND, IN_FOREGROUND])
@pytest.mark.parametrize("kind", ["kill", "full"])
def test_at_every_point(starter, words, straight, tmp_path, kind, way):
    """Every point on every process that passes it, each in a run of its own."""
    words, hit = [*words, way], []
    for point, rank in ALL_FAULTS:
        folder = tmp_path / f"{point}-{rank}".replace(" ", "-") / "run"
        if (kind, point) == ("full", "inside prune"):
            continue  # It stops nothing: see test_checkpoint_faults.py.
        assert_hit(starter, words, folder, point, rank, kind, NTH.get(point, 3))
        hit.append((point, rank))
        starter.run("cpu_ddp", words, folder).check()
        assert_same_run(folder, straight)
        shutil.rmtree(folder.parent)
    assert len(hit) == len(ALL_FAULTS) - (kind == "full")


@pytest.mark.long
def test_at_random_instants(starter, words, straight, tmp_path):
    """SIGKILL after a random time, again and again, until a run finishes."""
    rng, kills, finished = random.Random(0), 0, 0
    began = time.monotonic()
    starter.run("cpu_ddp", words, tmp_path / "timed").check()
    longest = time.monotonic() - began
    while kills < RANDOM_KILLS or not finished:
        folder = tmp_path / f"run-{finished}"
        job = starter.start("cpu_ddp", words, folder)
        pids, wait_s = job.pids, rng.uniform(0.3, 1.0) * longest
        stop = time.monotonic() + wait_s
        while time.monotonic() < stop and all(map(psutil.pid_exists, pids)):
            time.sleep(0.005)
        for pid in rng.sample(pids, 2)[: rng.choice((1, 2))]:
            if psutil.pid_exists(pid):
                os.kill(pid, 9)
                kills += 1
        if job.wait().returncode == 0:
            assert_same_run(folder, straight)
            finished += 1
    print(f"{kills} kills at random instants, {finished} runs finished")


def test_the_real_command_is_killed_and_started_again(words, straight, tmp_path):
    """`accelerate launch` and its workers, all at once, while it trains; the same command continues."""
    folder = tmp_path / "run"
    with launching.launcher(words, folder) as process:
        wait_for(lambda: process.poll() is not None or (folder / "checkpoints/step-00000002").is_dir())
    assert not (folder / "final").exists() and not (folder / "status.json").exists()
    continued = launch("cpu_ddp", words, folder).check()
    assert "continued from" in continued.output
    assert_same_run(folder, straight)


def test_a_second_start_in_one_folder_is_refused(starter, words, straight, tmp_path):
    """The first one and its status are not disturbed."""
    folder = tmp_path / "run"
    first = starter.start("cpu_ddp", words, folder)
    wait_for(lambda: (folder / "checkpoints/step-00000001").is_dir())
    second = starter.run("cpu_ddp", words, folder)
    assert second.returncode == 2
    assert f"output_dir {folder} is in use by process {first.pids[0]} on" in second.output
    first.wait().check()
    assert_same_run(folder, straight)


DAMAGES = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "deleted": os.unlink,
    "flipped": lambda file: file.write_bytes(bytes([*file.read_bytes()[:-1], file.read_bytes()[-1] ^ 1])),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_newest_checkpoint(demo_words, tmp_path, damage, capsys):
    """The one before is used, the log has the reason, and the run is the same as without damage."""
    words = cut_words(demo_words, "full")
    assert train([*words, f"output_dir={tmp_path}/straight"]) == 0
    with installed(Faults("full", AT_WORK, 18)):
        assert train([*words, f"output_dir={tmp_path}/run"]) == 1
    newest = (tmp_path / "run/last").resolve()
    damage(newest / "state-00000.safetensors")
    capsys.readouterr()
    assert train([*words, f"output_dir={tmp_path}/run"]) == 0
    log = (tmp_path / "run/train.log").read_text()
    assert f"{newest} cannot be used, the one before is tried: state-00000.safetensors" in log
    (broken,) = (tmp_path / "run/checkpoints").glob("*.broken-1")
    assert broken.name == f"{newest.name}.broken-1"
    shutil.rmtree(broken)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_a_full_disk_in_the_log(demo_words, tmp_path, monkeypatch):
    """A line of metrics.jsonl that cannot be written stops the run; the next start removes the half line."""
    from dst_dist.train.progress import TrainLog

    words = [*cut_words(demo_words, "full", "data.val=[]"), f"output_dir={tmp_path}/run"]
    intact = TrainLog.write

    def half(log, step, split, values):
        if step != 4:
            return intact(log, step, split, values)
        log.file.write('{"step": 4, "spl')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TrainLog, "write", half)
    assert train(words) == 1
    assert "No space left" in status_of(tmp_path / "run")["reason"]
    monkeypatch.setattr(TrainLog, "write", intact)
    assert train(words) == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 8))
