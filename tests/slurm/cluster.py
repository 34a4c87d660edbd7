"""A real Slurm of two nodes on this machine: munge, a controller and two node daemons under one folder."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from tests.launching import REPOSITORY, end_with_parent, free_port, kill_tree

NODES = ("n1", "n2")
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged", "mungekey")
START_TIMEOUT_S = 30
KILL_WAIT_S = 5
CONFIGURATION = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again: two minutes by default, 5 s at least.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
# The queue is looked at every other second; a job that is cancelled is killed so long after its SIGTERM.
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
KillWait={kill_wait_s}
{nodes}
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=1024 State=UNKNOWN"


def why_not() -> str | None:
    """Return why no Slurm can be started here, or None."""
    if os.geteuid() != 0:
        return "Slurm's daemons run as root here"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=search_path())]
    return f"no {', '.join(missing)}; on Debian as root: apt-get install slurm-wlm munge" if missing else None


def search_path() -> str:
    """Return a PATH with this Python's programs first, for jobs inherit it, and the daemons' folder last."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """Return the processes of this machine that have this in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except psutil.Error:
            pass
    return found


class Cluster:
    """Slurm's daemons, from `start` to `stop`.

    Attributes:
        env: the environment of its commands.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: list[subprocess.Popen] = []
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "ACCELERATE_"))
        }
        here = {
            "SLURM_CONF": f"{folder}/slurm.conf",
            "PATH": search_path(),
            "VIRTUAL_ENV": sys.prefix,
            "PYTHONPATH": str(REPOSITORY),
        }
        self.env = {**outside, **here, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def start(self) -> None:
        """Raises AssertionError with the daemons' logs if the nodes are not idle in time."""
        (self.folder / "state").mkdir()
        host = self.run("hostname", "-s").strip()
        nodes = "\n".join(NODE.format(name=name, host=host, port=free_port()) for name in NODES)
        text = CONFIGURATION.format(
            folder=self.folder, controller_port=free_port(), kill_wait_s=KILL_WAIT_S, nodes=nodes
        )
        (self.folder / "slurm.conf").write_text(text)
        self._start_munge()
        self._start_daemon("slurmctld", "-D")
        for name in NODES:
            self._start_daemon("slurmd", "-D", "-N", name)
        self.wait_until(
            lambda: self._try("sinfo", "-h", "-N", "-o", "%t").stdout.split() == ["idle"] * len(NODES), START_TIMEOUT_S
        )

    def _start_munge(self) -> None:
        self.run("mungekey", "--create", f"--keyfile={self.folder}/munge.key-file")
        # --force: munge would like the folder to be open to every user.
        files = [
            f"--{name}={self.folder}/munge.{name}"
            for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")
        ]
        self._start_daemon("munged", "--foreground", "--force", *files)
        self.wait_until((self.folder / "munge.socket").exists, START_TIMEOUT_S)

    def _start_daemon(self, *command: str) -> None:
        with open(self.folder / "daemons.log", "a") as log:
            self.daemons.append(
                subprocess.Popen(
                    command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent
                )
            )

    def stop(self) -> None:
        """End every job, then every daemon, then any process that a failed test may have left."""
        self._try("scancel", "--user=root")
        deadline_s = time.monotonic() + KILL_WAIT_S + 10
        while self._try("squeue", "-h", "-o", "%i").stdout and time.monotonic() < deadline_s:
            time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                kill_tree(daemon.pid)
                daemon.wait()
        for process in processes_with("SLURM_CONF", self.env["SLURM_CONF"]):
            process.kill()

    def _try(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(command, env={**self.env, **(env or {})}, cwd=REPOSITORY, capture_output=True, text=True)

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Return the standard output of a command, run with further environment. Raises AssertionError if it fails."""
        answer = self._try(*command, env=env)
        assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
        return answer.stdout

    def submit(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """Run `dst-dist slurm` with one process per node, 30 minutes and these words; return the job's number."""
        command = [sys.executable, "-m", "dst_dist", "slurm", "--processes-per-node", "1", "--time", "30", *words]
        return re.search(r"Submitted batch job (\d+)", self.run(*command, env=env))[1]

    def job(self, number: str) -> dict[str, str]:
        """Return Slurm's record of a job, of ended ones too: JobState, Restarts, ExitCode, ..."""
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", "--oneliner", number)))

    def wait_for_end(self, number: str, timeout_s: float) -> dict[str, str]:
        """Wait until a job is neither queued nor running; return Slurm's record of it."""
        self.wait_until(
            lambda: self.job(number)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED"), timeout_s
        )
        return self.job(number)

    def wait_until(self, condition: Callable[[], object], timeout_s: float) -> None:
        """Wait until a condition holds; raises AssertionError with the daemons' logs if it takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"condition not met after {timeout_s} s\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))
