"""The engine that launch/quickstart.sh trains with, on machines with pretended cards."""

import os
import shutil
import subprocess

import pytest

from tests.launching import REPOSITORY

PROGRAMS = {
    # How many cards torch sees; nothing is done yet.
    "python": 'case "$2" in *torch*) echo "$TORCH_SEES" ;; *) exit 1 ;; esac',
    "nvidia-smi": 'for ((n = 0; n < DRIVER_LISTS; n++)); do echo "GPU $n: NVIDIA H100 (UUID: GPU-$n)"; done',
    "dst-dist": "mkdir -p demo",
    "accelerate": 'echo "$@" >>launched; mkdir -p runs/demo; echo {} >>runs/demo/metrics.jsonl',
}


@pytest.fixture
def quickstart(tmp_path):
    """`quickstart(**variables)` runs the script with programs that only pretend, and returns its launches."""
    shutil.copytree(REPOSITORY / "launch", tmp_path / "launch")
    for name in ("setup.cfg", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (programs / name).chmod(0o755)
    key = subprocess.run(["bash", "-c", ". launch/install.sh; install_key"], cwd=tmp_path, stdout=subprocess.PIPE)
    (tmp_path / "venv/.dst_dist").write_bytes(key.stdout)

    def run(**variables):
        inherited = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        path = f"{programs}:{os.environ['PATH']}"
        env = {**inherited, "VIRTUAL_ENV": str(tmp_path / "venv"), "PATH": path, **variables}
        done = subprocess.run(["bash", "launch/quickstart.sh"], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (tmp_path / "launched").read_text()

    return run


@pytest.mark.parametrize(
    "torch_sees, driver_lists, hidden, engine, processes",
    [
        (0, 0, None, "cpu_zero2", 2),
        (1, 1, None, "ddp", 1),
        (2, 2, None, "zero2", 2),
        (8, 8, None, "zero2", 2),
        # One of two is given to this job; all are hidden; a container has no nvidia-smi.
        (1, 2, "0", "ddp", 1),
        (0, 2, "", "cpu_zero2", 2),
        (1, 0, None, "ddp", 1),
        # The driver is too old, or this torch is for CPUs: the training refuses and says so.
        (0, 1, None, "ddp", 1),
    ],
)
def test_the_launch_fits_the_machine(quickstart, torch_sees, driver_lists, hidden, engine, processes):
    variables = {} if hidden is None else {"CUDA_VISIBLE_DEVICES": hidden}
    launched = quickstart(TORCH_SEES=str(torch_sees), DRIVER_LISTS=str(driver_lists), **variables)
    assert f"--config_file launch/{engine}.yaml --num_processes {processes} " in launched
