"""Training on two nodes of a real Slurm: stopped at its time limit, a process killed, cancelled, submitted again."""

import json
import re
import signal

import pytest

from tests.launching import TINY_RUN
from tests.slurm.cluster import processes_with

TIMEOUT_S = 150
LAST_STEP = 40
ENGINE = "cpu_zero2"


@pytest.fixture
def words(demo_words):
    return (*TINY_RUN, *demo_words, f"train.max_steps={LAST_STEP}", "optim.warmup_steps=4", "checkpoint.every_steps=5")


def curve(folder):
    """Return step -> loss and gradient norm; the last line of a step counts."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines}


def processes_of(job):
    """Return the training processes of a job, by rank; the launchers have no rank."""
    ranks = {process.environ().get("RANK"): process for process in processes_with("SLURM_JOB_ID", job)}
    return [ranks[rank] for rank in sorted(ranks.keys() - {None})]


def reach(cluster, folder, step):
    """Wait until a run has done this step."""
    cluster.wait_until(lambda: (folder / "metrics.jsonl").exists() and step in curve(folder), TIMEOUT_S)


def test_an_interrupted_run_ends_as_an_undisturbed_one(starter, cluster, words, tmp_path):
    run = tmp_path / "run"
    command = (*words, f"output_dir={run}", "--engine", ENGINE, "--nodes", "2", "--signal-s", "570")
    log = run / "slurm.log"

    # The time limit comes near: saved and queued again. Slurm takes up to half a minute to notice. Meanwhile the
    # training is suspended, and the same training runs on two processes without Slurm.
    job = cluster.submit(*command)
    reach(cluster, run, 7)
    held = processes_of(job)
    assert len(held) == 2
    for process in held:
        process.suspend()
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    undisturbed = curve(starter.run(ENGINE, words, tmp_path / "undisturbed").check().folder)
    cluster.wait_until((run / "STOP").exists, TIMEOUT_S)
    for process in held:
        process.resume()
    cluster.wait_until(lambda: "ended with code 85" in log.read_text(), TIMEOUT_S)
    cluster.wait_until(lambda: cluster.job(job)["Restarts"] == "1", TIMEOUT_S)
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    assert not (run / "STOP").exists() and 7 <= max(curve(run)) < 15

    # A process of the second node is killed after a checkpoint of this start: queued again.
    reach(cluster, run, 18)
    processes_of(job)[1].send_signal(signal.SIGKILL)
    cluster.wait_until(lambda: log.read_text().count("queued again") == 2, TIMEOUT_S)
    assert "ended with code 1" in log.read_text()

    # Cancelled: it is not queued again, and the same command continues it.
    reach(cluster, run, 26)
    cluster.run("scancel", job)
    state = cluster.wait_for_end(job, TIMEOUT_S)
    assert (state["JobState"], state["Restarts"]) == ("CANCELLED", "2")
    job = cluster.submit(*command)
    state = cluster.wait_for_end(job, TIMEOUT_S)
    assert (state["JobState"], state["Restarts"]) == ("COMPLETED", "0"), log.read_text()

    assert json.loads((run / "status.json").read_text())["code"] == 0 and (run / "final").is_dir()
    starts = re.findall(r"start (\d) on n\[1-2\], newest checkpoint: (\S+)", log.read_text())
    assert [start for start, _ in starts] == ["1", "2", "3", "1"]
    assert starts[0][1] == "none" and "step-00000007" <= starts[1][1] < starts[2][1] < starts[3][1]
    assert list(undisturbed) == list(range(1, LAST_STEP + 1))
    assert curve(run) == undisturbed
