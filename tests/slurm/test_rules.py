"""slurm/train.sbatch on a real Slurm, rule by rule, with a script of a few lines in place of `accelerate`."""

import json
import re
import subprocess
import sys
import time

import pytest

from dst_dist.slurm import time_limit_s
from tests.launching import REPOSITORY

TIMEOUT_S = 60
ONE_NODE = ("demo", "--engine", "cpu_ddp", "--nodes", "1")
TOOLS = """#!/usr/bin/env bash
start=${SLURM_RESTART_COUNT:-0}
status() { echo "{
  \\"code\\": $1,
  \\"reason\\": \\"code: 7\\"
}" >"$run/status.json"; }
checkpoint() { mkdir -p "$run/checkpoints/step-0000000$1"; }
wait_for_stop() { while [ ! -e "$run/STOP" ]; do sleep 0.1; done; rm "$run/STOP"; }
echo "$start" >>"$run/starts"
"""


@pytest.fixture
def submit(cluster, tmp_path):
    """Submit a run whose `accelerate` is a script; return the job's number and its run folder."""

    def submit(script, *words, name="run"):
        run, programs = tmp_path / name, tmp_path / f"programs of {name}"
        programs.mkdir()
        stand_in = programs / "accelerate"
        stand_in.write_text(TOOLS + script)
        stand_in.chmod(0o755)
        env = {"PATH": f"{programs}:{cluster.env['PATH']}", "run": str(run)}
        return cluster.submit(*words, f"output_dir={run}", env=env), run

    return submit


def starts_of(run):
    return (run / "starts").read_text().split()


def test_every_node_gets_the_words_as_written_and_its_own_rank(cluster, submit):
    words = ("data.train=['a b', \"it's\", {$HOME: 2}]", "data.root=/x/`y` *;& \\z")
    script = 'printf "%s\\0" "$PWD" "$SRUN_CPUS_PER_TASK" "$OMP_NUM_THREADS" "$@" >"$run/seen-$SLURM_NODEID"; status 0'
    job, run = submit(
        script,
        "demo",
        *words,
        "data.num_workers=1",
        "--engine",
        "cpu_zero2",
        "--nodes",
        "2",
        "--allow-changed",
        "loss.lm",
        name='it\'s a "run" [1] #5%n $5',
    )
    state = cluster.wait_for_end(job, TIMEOUT_S)
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), (run / "slurm.log").read_text()
    seen = [(run / f"seen-{rank}").read_text().split("\0")[:-1] for rank in (0, 1)]
    port = str(10000 + int(job) % 20000)
    assert seen[0] == [
        str(REPOSITORY),
        "2",
        "1",
        "launch",
        "--machine_rank",
        "0",
        "--config_file",
        "launch/cpu_zero2.yaml",
        "--num_machines",
        "2",
        "--num_processes",
        "2",
        "--main_process_ip",
        "127.0.0.1",
        "--main_process_port",
        port,
        "-m",
        "dst_dist.train",
        "demo",
        *words,
        "data.num_workers=1",
        f"output_dir={run}",
        "--allow-changed",
        "loss.lm",
    ]
    assert seen[1] == [*seen[0][:5], "1", *seen[0][6:]]
    assert "start 1 on n[1-2], newest checkpoint: none" in (run / "slurm.log").read_text()
    assert (run / "node-0.log").exists() and (run / "node-1.log").exists()


def test_an_error_of_sbatch_is_an_error_of_the_command(cluster, tmp_path):
    command = [sys.executable, "-m", "dst_dist", "slurm", "demo", f"output_dir={tmp_path}/run", "--time", "soon"]
    refused = subprocess.run(command, cwd=REPOSITORY, env=cluster.env, capture_output=True, text=True)
    assert refused.returncode == 2 and "Invalid --time specification" in refused.stderr


def test_a_time_is_read_as_slurm_reads_it(cluster):
    """Compare with the limit that Slurm gives held jobs."""
    for time_words in ("90", "90:01", "2:90:59", "1-2", "1-2:30", "1-2:30:01", "0:30", "3:0:0", "007"):
        job = cluster.run("sbatch", "--parsable", "--hold", f"--time={time_words}", "--wrap=true").strip()
        days, hours, minutes, seconds = map(
            int, re.match(r"(?:(\d+)-)?(\d+):(\d+):(\d+)$", cluster.job(job)["TimeLimit"]).groups("0")
        )
        cluster.run("scancel", job)
        assert time_limit_s(time_words) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds, time_words


def test_bad_usage_is_not_queued_again(cluster, submit):
    job, run = submit("checkpoint 1; status 2", *ONE_NODE)
    state = cluster.wait_for_end(job, TIMEOUT_S)
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "2:0", "0")


def test_the_signal_before_the_time_limit_queues_again_up_to_max_requeues(cluster, submit):
    # The run itself sends what Slurm sends before the time limit.
    script = 'checkpoint "$start"; scancel --batch --signal=USR1 "$SLURM_JOB_ID"; wait_for_stop; status 85'
    job, run = submit(script, *ONE_NODE, "--max-requeues", "1")
    state = cluster.wait_for_end(job, TIMEOUT_S)
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "85:0", "1")
    assert starts_of(run) == ["0", "1"]
    log = (run / "slurm.log").read_text()
    assert log.count("ended with code 85") == 2 and "not queued again: --max-requeues is 1" in log
    assert "start 2 on n1, newest checkpoint: step-00000000" in log


def test_two_starts_in_a_row_without_a_step_are_the_last(cluster, submit):
    script = 'checkpoint $((start ? 7 : 0)); scancel --batch --signal=USR1 "$SLURM_JOB_ID"; wait_for_stop; status 85'
    job, run = submit(script, *ONE_NODE)
    state = cluster.wait_for_end(job, TIMEOUT_S)
    log = (run / "slurm.log").read_text()
    # The first start makes no step, the second seven, the others none.
    assert (state["JobState"], state["ExitCode"], starts_of(run)) == ("FAILED", "85:0", ["0", "1", "2", "3"]), log
    assert "not queued again: two starts in a row were stopped before their first step" in log and "more --time" in log


def test_a_run_that_saves_only_at_the_time_limit_is_queued_again(cluster, submit):
    """At the time limit Slurm sends SIGTERM to a run that was asked to save and has not yet."""
    overtaken = "trap 'sleep 3; checkpoint 1; status 85; exit' TERM; touch $run/ready; while :; do sleep 0.1; done"
    script = f'[ "$start" = 1 ] && {{ status 0; exit; }}; scancel --batch --signal=USR1 "$SLURM_JOB_ID"; {overtaken}'
    job, run = submit(script, *ONE_NODE)
    cluster.wait_until((run / "ready").exists, TIMEOUT_S)
    # A moment that has passed when Slurm reads it is refused.
    cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+5")
    state = cluster.wait_for_end(job, 2 * TIMEOUT_S)
    log = (run / "slurm.log").read_text()
    assert (state["JobState"], state["Restarts"], starts_of(run)) == ("COMPLETED", "1", ["0", "1"]), log
    assert "DUE TO TIME LIMIT" in log and log.count("a larger --signal-s") == 1
    assert "start 2 on n1, newest checkpoint: step-00000001" in log


def test_a_run_stopped_by_a_stop_file_is_not_queued_again(cluster, submit):
    job, run = submit("touch $run/ready; wait_for_stop; checkpoint 1; status 85", *ONE_NODE)
    cluster.wait_until((run / "ready").exists, TIMEOUT_S)
    (run / "STOP").touch()
    state = cluster.wait_for_end(job, TIMEOUT_S)
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "85:0", "0")
    assert "not queued again: stopped by a STOP file" in (run / "slurm.log").read_text()


@pytest.mark.parametrize(
    "begin, end",
    [("", "status 85"), ("", "exit"), ('scancel --batch --signal=USR1 "$SLURM_JOB_ID"; wait_for_stop;', "status 85")],
    ids=("saved in time", "died", "asked to save before"),
)
def test_a_cancelled_job_does_not_queue_itself_again(cluster, submit, begin, end):
    job, run = submit(f"trap '' TERM; {begin} touch $run/ready; wait_for_stop; checkpoint 1; {end}", *ONE_NODE)
    cluster.wait_until((run / "ready").exists, TIMEOUT_S)
    cluster.run("scancel", job)
    cluster.wait_until(lambda: "ended with code" in (run / "slurm.log").read_text(), TIMEOUT_S)
    state = cluster.wait_for_end(job, TIMEOUT_S)
    time.sleep(3)
    assert cluster.job(job)["JobState"] == "CANCELLED" and state["Restarts"] == "0"
    log = (run / "slurm.log").read_text()
    assert "newest checkpoint: step-00000001" in log and "not queued again: cancelled" in log


def test_a_crash_is_queued_again_only_after_a_new_checkpoint(cluster, submit):
    job, run = submit("checkpoint 1; exit", *ONE_NODE)
    state = cluster.wait_for_end(job, TIMEOUT_S)
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "1:0", "1")
    assert starts_of(run) == ["0", "1"]
    assert "not queued again: it failed, and got no further" in (run / "slurm.log").read_text()


def test_the_first_process_may_finish_its_status_after_another_node_failed(cluster, submit):
    script = '[ "$SLURM_NODEID" = 1 ] && exit 1; sleep 3; status 85; exit 1'
    job, run = submit(script, "demo", "--engine", "cpu_ddp", "--nodes", "2")
    assert cluster.wait_for_end(job, TIMEOUT_S)["ExitCode"] == "85:0"


def test_stop_and_status_files_of_an_earlier_start_are_removed(cluster, submit, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "STOP").touch()
    (run / "status.json").write_text(json.dumps({"code": 0}, indent=2))
    job, _ = submit("[ ! -e $run/STOP ] && [ ! -e $run/status.json ]; exit", *ONE_NODE)
    assert cluster.wait_for_end(job, TIMEOUT_S)["ExitCode"] == "1:0"
    assert "srun: error" not in (run / "slurm.log").read_text()


def test_a_second_job_of_a_run_waits_for_the_first(cluster, submit):
    waiting = "touch $run/ready; wait_for_stop; status 0"
    first, run = submit(waiting, *ONE_NODE)
    second = cluster.submit(*ONE_NODE, f"output_dir={run}")
    other, other_run = submit(waiting, *ONE_NODE, name="other")
    cluster.wait_until((other_run / "ready").exists, TIMEOUT_S)
    state = cluster.job(second)
    assert state["JobState"] == "PENDING" and "singleton" in state["Dependency"]
    cluster.run("scancel", second)
    for folder in (run, other_run):
        (folder / "STOP").touch()
    for job in (first, other):
        assert cluster.wait_for_end(job, TIMEOUT_S)["JobState"] == "COMPLETED"
