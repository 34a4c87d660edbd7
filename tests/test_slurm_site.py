"""The user's slurm/site.sh runs as in a shell of its own; neither it nor the shell of the submission disturbs a job."""

import os
import shutil
import subprocess

import pytest

from dst_dist.cli import main
from tests.launching import REPOSITORY

SITES = {
    "reads a variable that is not set, as conda's scripts do": '[ "$CONDA_BACKUP_ADDR2LINE" ] || export A="$NEVER"',
    "a command fails": "false; grep -q x /dev/null; command_that_is_not_there 2>/dev/null; false | true",
    "its last command fails": "[ -f /nowhere ] && . /nowhere",
    "reads arguments, as conda's activate does": '[ $# = 0 ] || { echo "activate: unknown $*" >&2; exit 1; }',
    "changes options": "set -euo pipefail; set -Cf; shopt -s failglob; IFS=,",
    "sets traps": "trap 'echo trapped; exit 9' TERM EXIT ERR USR1",
    "uses our names": "run=/x; words=(a); engine=b; code=5; reason=c; signal=USR1; say() { exit 9; }; newest() { :; }",
    "shadows commands": "cd() { :; }; wait() { exit 9; }; alias bash=false; rm() { exit 9; }",
    "goes elsewhere": "cd /",
    "returns early": "return 0",
    "writes": 'echo welcome; module() { echo loaded "$@"; }; module load cuda',
}
LEAKS = {
    "options": {"SHELLOPTS": "braceexpand:errexit:hashall:interactive-comments:noclobber:nounset:pipefail"},
    "a launcher": {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "MASTER_ADDR": "x", "GROUP_RANK": "1"},
    "accelerate": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1", "PARALLELISM_CONFIG_DP_SHARD_SIZE": "9"},
    "torchrun": {"TORCHELASTIC_RUN_ID": "7", "ROLE_NAME": "default", "LOCAL_WORLD_SIZE": "4"},
}
PROGRAMS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "scontrol": "echo NodeAddr=127.0.0.1",
    "accelerate": 'printf "%s\\n" "$PWD" "$@" >>"$SEEN"; env >"$SEEN.env"; mkdir -p "$FOLDER"\n'
    'printf "{\\n  \\"code\\": 0,\\n}" >"$FOLDER/status.json"',
    "sbatch": 'env >"$SEEN.env"; echo "Submitted batch job 7"',
}
IN_A_JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURMD_NODENAME": "n1",
    "SLURM_JOB_NODELIST": "n1",
    "SLURM_CPUS_PER_TASK": "2",
    "SLURM_GPUS_ON_NODE": "2",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository whose site.sh may be changed, in which `programs` stand in for Slurm's and accelerate."""
    for folder in ("slurm", "launch"):
        shutil.copytree(REPOSITORY / folder, tmp_path / "my repo" / folder)
    (tmp_path / "programs").mkdir()
    for name, text in PROGRAMS.items():
        program = tmp_path / "programs" / name
        program.write_text(f"#!/bin/bash -p\n{text}\n")
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path / "my repo")
    monkeypatch.setenv("PATH", f"{tmp_path}/programs:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", f"{tmp_path}/seen")
    monkeypatch.setenv("FOLDER", f"{tmp_path}/run")
    return tmp_path


def with_site(place, text):
    with open(place / "my repo/slurm/site.sh", "a") as site:
        site.write(f"\nexport FROM_SITE=yes\n{text}\n")


def run(*command, env=None):
    return subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True)


def train_job(place, capsys, env=None):
    """Run the job of a training; return what it gave, and what `accelerate` was given."""
    assert main(["slurm", "demo", "data.root=a *;'b", f"output_dir={place}/run", "--dry-run"]) == 0
    script = place / "job"
    script.write_text(capsys.readouterr().out)
    ended = run("bash", str(script), env={**IN_A_JOB, **(env or {})})
    return ended, (place / "seen").read_text().splitlines() if (place / "seen").exists() else ended.stderr


@pytest.mark.parametrize("case", SITES)
def test_a_job_runs_whatever_is_in_the_users_file(place, capsys, case):
    with_site(place, SITES[case])
    ended, seen = train_job(place, capsys)
    assert ended.returncode == 0, ended.stderr
    assert seen[0] == f"{place}/my repo" and seen[1:4] == ["launch", "--machine_rank", "0"]
    assert seen[-3:] == ["demo", "data.root=a *;'b", f"output_dir={place}/run"]
    assert "FROM_SITE=yes" in (place / "seen.env").read_text().splitlines()
    assert "ended with code 0" in ended.stdout and "trapped" not in ended.stdout


@pytest.mark.parametrize("case", SITES)
def test_an_evaluation_runs_whatever_is_in_the_users_file(place, case):
    with_site(place, SITES[case])
    ended = run("bash", "slurm/evaluate.sbatch", "my run", "--split", "a *;'b", env=IN_A_JOB)
    assert ended.returncode == 0, ended.stderr
    seen = (place / "seen").read_text().splitlines()
    assert seen[0] == f"{place}/my repo" and seen[-4:] == ["evaluate", "my run", "--split", "a *;'b"]


@pytest.mark.parametrize("case", SITES)
def test_a_job_is_submitted_whatever_is_in_the_users_file(place, capsys, case):
    with_site(place, SITES[case])
    assert main(["slurm", "demo", f"output_dir={place}/run"]) == 0
    assert "Submitted batch job 7; logs in" in capsys.readouterr().out
    assert "FROM_SITE=yes" in (place / "seen.env").read_text().splitlines()


@pytest.mark.parametrize("leak", LEAKS)
def test_the_shell_that_a_job_is_started_from_does_not_leak_into_it(place, capsys, leak):
    with_site(place, "; ".join(SITES[case] for case in list(SITES)[:3]))
    ended, seen = train_job(place, capsys, env=LEAKS[leak])
    assert ended.returncode == 0, ended.stderr
    names = {line.partition("=")[0] for line in (place / "seen.env").read_text().splitlines()}
    assert not names & LEAKS[leak].keys() and "SLURM_JOB_ID" in names


def test_a_job_around_the_submission_does_not_leak_into_the_new_one(place, monkeypatch, capsys):
    around = ("SLURM_NTASKS", "SLURM_MEM_PER_CPU", "SLURM_CPU_BIND", "CUDA_VISIBLE_DEVICES", "RANK")
    for name in (*around, "SLURM_CONF", "SBATCH_ACCOUNT", "HF_HOME"):
        monkeypatch.setenv(name, "1")
    with_site(place, "export SBATCH_PARTITION=gpu SLURM_HINT=nomultithread")
    assert main(["slurm", "demo", f"output_dir={place}/run"]) == 0
    lines = (place / "seen.env").read_text().splitlines()
    assert not {line.partition("=")[0] for line in lines} & set(around)
    kept = {"SLURM_CONF=1", "SBATCH_ACCOUNT=1", "HF_HOME=1", "SBATCH_PARTITION=gpu", "SLURM_HINT=nomultithread"}
    assert kept <= set(lines)


def test_limits_of_the_submitting_shell_are_not_those_of_the_job():
    for name in ("train", "evaluate"):
        assert "#SBATCH --propagate=NONE\n" in (REPOSITORY / f"slurm/{name}.sbatch").read_text()


def test_a_file_that_ends_the_shell_ends_the_job_with_its_code(place, capsys):
    with_site(place, "echo 'no such cluster' >&2; exit 3")
    ended, seen = train_job(place, capsys)
    assert ended.returncode == 3 and seen == "no such cluster\n"
    assert main(["slurm", "demo", f"output_dir={place}/run"]) == 2
    assert "no such cluster" in capsys.readouterr().err
