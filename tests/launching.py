"""Start a training as a user does, and read its run folder."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[1]
PR_SET_PDEATHSIG = 1
"""Number of the option in linux/prctl.h."""
TIMEOUT_S = 400
"""A launch takes under a minute on two free cores."""
TINY_RUN = ("demo", "data.num_workers=0", "data.val=[]", "log.report_to=[]")
"""Words of a recipe for runs in which only the training matters."""


@dataclass(frozen=True)
class Launched:
    """A training that has ended. `output` is standard output and standard error of all processes."""

    returncode: int
    output: str
    folder: Path

    @property
    def status(self) -> dict:
        """`status.json`."""
        return json.loads((self.folder / "status.json").read_text())

    def metrics(self, split: str = "train") -> list[dict]:
        """The lines of `metrics.jsonl` of one split, in order."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["split"] == split]

    def check(self) -> "Launched":
        """Raise AssertionError with the output if the training did not end well."""
        assert self.returncode == 0, f"exit code {self.returncode}:\n{self.output[-6000:]}"
        assert self.status["code"] == 0, self.status
        return self


def launch(
    engine: str | Path,
    words: Sequence[str],
    folder: Path,
    num_processes: int = 2,
    module: Sequence[str] = ("dst_dist.train",),
    timeout_s: float = TIMEOUT_S,
    env: Mapping[str, str] | None = None,
) -> Launched:
    """Train to the end through `accelerate launch`, from the repository's root.

    Args:
        engine: name of a file in `launch/`, or path of another one.
        words: recipes and `key=value` words; `output_dir` is set to `folder`.
        module: what `-m` runs, and words before the recipe.
        env: environment variables to add.

    Raises:
        AssertionError: if it takes longer than `timeout_s`; every process is killed first.
    """
    command = [*_command(engine, num_processes), "-m", *module, *words, f"output_dir={folder}"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.output")
    with open(log, "w", encoding="utf-8") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        try:
            code = run_to_end(command, timeout_s, cwd=REPOSITORY, env=_environment(env or {}), **streams)
        except subprocess.TimeoutExpired as expired:
            raise AssertionError(f"no end after {timeout_s} s: {command}\n{log.read_text()[-6000:]}") from expired
    return Launched(code, log.read_text(), folder)


def run_to_end(command: Sequence[str], timeout_s: float | None = None, **settings: Any) -> int:
    """Run a command and return its exit code. What it started ends with this call, or with this program.

    Args:
        settings: of `subprocess.Popen`.

    Raises:
        subprocess.TimeoutExpired: after its processes were killed.
    """
    process = subprocess.Popen(command, preexec_fn=end_with_parent, **settings)
    try:
        return process.wait(timeout_s)
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()


@contextlib.contextmanager
def launcher(words: Sequence[str], folder: Path, module: str = "dst_dist.train", **env: str) -> Iterator:
    """Yield `accelerate launch` with two CPU processes in the folder; at the end of the block all are killed."""
    command = [*_command("cpu_ddp", 2), "-m", module, *words, f"output_dir={folder}"]
    with open(folder.with_name(f"{folder.name}.output"), "w", encoding="utf-8") as output:
        streams = {"stdout": output, "stderr": output, "cwd": REPOSITORY, "env": _environment(env)}
        process = subprocess.Popen(command, preexec_fn=end_with_parent, **streams)
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent ends, however it ends; called in a child before its program starts."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _command(engine: str | Path, num_processes: int) -> list[str]:
    file = engine if isinstance(engine, Path) else REPOSITORY / "launch" / f"{engine}.yaml"
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    numbers = ["--num_processes", str(num_processes), "--main_process_port", str(free_port())]
    return [accelerate, "launch", "--config_file", str(file), *numbers]


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without an outer launcher's variables, and with one thread a process."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE") and not name.startswith("ACCELERATE_")
    }
    return {**inherited, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **extra}


def free_port() -> int:
    """Return a free TCP port, so that launches at the same time do not meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants; workers of a launcher have sessions of their own."""
    parent = psutil.Process(pid)
    for process in [*parent.children(recursive=True), parent]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
