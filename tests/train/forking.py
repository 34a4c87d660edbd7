"""Start trainings of several processes in a second each: forked from a process that has imported everything.

`Starter` does what `accelerate launch` does: it sets the same environment (made by Accelerate itself), and when one
process fails it sends SIGTERM to the others. The launcher itself is tested with `tests.launching`.
"""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from dst_dist.exit import leave
from tests.launcher_says import said
from tests.launching import REPOSITORY, TIMEOUT_S, Launched, end_with_parent, free_port, kill_tree

GRACE_S = 3
"""The launcher waits 30 s from SIGTERM to SIGKILL."""


class Job:
    """A training in progress."""

    def __init__(self, folder: Path, log: Path):
        self.folder, self.log = folder, log

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers, by rank."""
        file = self.log.with_suffix(".pids")
        wait_for(file.exists)
        return json.loads(file.read_text())

    @property
    def codes(self) -> list[int]:
        """The exit codes of the workers, by rank, after the end."""
        return json.loads(self.log.with_suffix(".codes").read_text())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all workers that are still alive."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, timeout_s: float = TIMEOUT_S) -> Launched:
        """Wait for the end, or kill the workers; `returncode` is that of the worker that failed first."""
        file = self.log.with_suffix(".exit")
        try:
            wait_for(file.exists, timeout_s)
        except AssertionError as error:
            self.send(signal.SIGKILL)
            raise AssertionError(f"no end after {timeout_s} s:\n{self.log.read_text()[-6000:]}") from error
        return Launched(json.loads(file.read_text()), self.log.read_text(), self.folder)


class Starter:
    """The process that forks; stop it with `close`."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.train.forking"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            text=True,
            preexec_fn=end_with_parent,
        )
        self.number = 0

    def start(
        self,
        engine: str | None,
        words: Sequence[str],
        folder: Path,
        num_processes: int = 2,
        module: Sequence[str] = ("dst_dist.train",),
        env: Mapping[str, str] | None = None,
    ) -> Job:
        """Start a training in the background; arguments as of `tests.launching.launch`.

        Args:
            engine: name of a file in `launch/`, or None for a single process without a launcher.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.number += 1
        log = folder.with_name(f"{folder.name}.{self.number}.output")
        words = [*module[1:], *words, f"output_dir={folder}"]
        order = {
            "engine": engine,
            "words": words,
            "num_processes": num_processes,
            "module": module[0],
            "env": dict(env or {}),
            "port": free_port(),
            "log": str(log),
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return Job(folder, log)

    def run(self, *arguments, timeout_s: float = TIMEOUT_S, **others) -> Launched:
        """Start a training and wait for its end."""
        return self.start(*arguments, **others).wait(timeout_s)

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            kill_tree(self.process.pid)


def wait_for(condition, timeout_s: float = TIMEOUT_S) -> None:
    """Wait for a condition. Raises AssertionError if it does not become true in time."""
    stop = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < stop, f"waited {timeout_s} s"
        time.sleep(0.01)


# The forking process


def serve() -> None:
    """Read orders, a line each, and fork a launcher for each."""
    import deepspeed  # noqa: F401
    from accelerate.commands import launch  # noqa: F401

    from dst_dist.train import loop  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    environments: dict[str, dict[str, str]] = {}
    for line in sys.stdin:
        order = json.loads(line)
        engine = order["engine"]
        if engine is not None and engine not in environments:
            environments[engine] = said(REPOSITORY / "launch" / f"{engine}.yaml")
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            launch_here(order, environments.get(engine))


def launch_here(order: dict, environment: dict[str, str] | None) -> None:
    """Fork the workers, and end all when one fails; does not return.

    Args:
        environment: what a launcher sets; None for a single process without one.
    """
    log = Path(order["log"])
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    num_processes = order["num_processes"]
    if environment is not None:
        world = {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
        os.environ.update(environment | world | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(order["port"])})
    os.environ.update(order["env"])
    pids = []
    for rank in range(num_processes):
        pid = os.fork()
        if pid == 0:
            if environment is not None:
                os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank)})
            work(order)
        pids.append(pid)
    write_whole(log.with_suffix(".pids"), pids)
    first, codes = watch(pids)
    write_whole(log.with_suffix(".codes"), codes)
    write_whole(log.with_suffix(".exit"), first)
    os._exit(0)


def work(order: dict) -> None:
    """Run one worker as `python -m` would; does not return."""
    sys.argv = [order["module"], *order["words"]]
    code = 1
    try:
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        leave(code)


def watch(pids: list[int]) -> tuple[int, list[int]]:
    """Wait for all workers; return the exit code of the first that failed (minus the signal), or 0, and all codes."""
    living, first, killing_at = set(pids), 0, float("inf")
    codes = dict.fromkeys(pids, 0)
    while living:
        for pid in list(living):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                living.remove(pid)
                code = codes[pid] = os.waitstatus_to_exitcode(status)
                if code and not first:
                    first, killing_at = code, time.monotonic() + GRACE_S
                    end(living, signal.SIGTERM)
        if time.monotonic() > killing_at:
            end(living, signal.SIGKILL)
        time.sleep(0.02)
    return first, list(codes.values())


def end(pids: set[int], number: signal.Signals) -> None:
    """Send a signal to processes that may have ended."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(number)


def write_whole(path: Path, content) -> None:
    """Write JSON so that it is never read half written."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


if __name__ == "__main__":
    serve()
