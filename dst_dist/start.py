"""`dst-dist train` starts a training with `accelerate launch`, and ends with the training's own exit code."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dst_dist.devices import num_gpus
from dst_dist.errors import ConfigError
from dst_dist.exit import DONE
from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder

CPU_PROCESSES = 2


@dataclass(frozen=True)
class Launch:
    """The launch of a training's processes; None takes what fits the machine.

    Attributes:
        engine: a file of launch/, without its ending.
        processes: over all nodes.
        node_rank: this node's number, from 0.
        main_address: name or address of node 0.
    """

    engine: str | None = None
    processes: int | None = None
    nodes: int = 1
    node_rank: int | None = None
    main_address: str | None = None


def start_training(words: Sequence[str], launch: Launch, allowed: Sequence[str] = ()) -> int:
    """Print the `accelerate launch` line, run it, and return the training's exit code: 0, 1, 2 or 85.

    Args:
        words: recipes and `key=value` words.
        allowed: keys that may differ from the run so far.

    Raises:
        ConfigError: if recipe or launch are wrong. Faults that the training itself finds have its exit code instead.
    """
    status_file = RunFolder(Path(load_recipe(words).output_dir)).status_file
    line = [*command_of(launch), *words, *(word for key in allowed for word in ("--allow-changed", key))]
    print(shlex.join(line), flush=True)
    earlier = _read(status_file)
    code = _run([sys.executable, "-m", "accelerate.commands.launch", *line[2:]])
    status = _read(status_file)
    # Without a new status it was the launcher that failed.
    return code if code == DONE or status == earlier else json.loads(status[1])["code"]


def command_of(launch: Launch) -> list[str]:
    """Return the `accelerate launch` command up to the recipe. Raises ConfigError with all faults at once."""
    engine, processes = launch.engine, launch.processes
    if engine is None or processes is None:
        found = 0 if (engine or "").startswith("cpu_") else num_gpus()
        engine = engine or ("cpu_zero2" if found == 0 else "ddp" if found == 1 else "zero2")
        processes = processes or launch.nodes * (found or CPU_PROCESSES)
    file, faults = Path(f"launch/{engine}.yaml"), []
    if not file.is_file():
        faults.append(f"no {file} here; run it from the repository's root, with one of launch/*.yaml as --engine")
    if processes % launch.nodes:
        faults.append(f"--processes {processes} over --nodes {launch.nodes}: each node needs as many")
    several = []
    if launch.nodes > 1:
        if launch.node_rank is None or not 0 <= launch.node_rank < launch.nodes:
            faults.append(f"--nodes {launch.nodes} needs --node-rank, from 0 to {launch.nodes - 1}, another on each")
        if not launch.main_address:
            faults.append(f"--nodes {launch.nodes} needs --main-address, the name of the node with --node-rank 0")
        several = ["--num_machines", str(launch.nodes), "--machine_rank", str(launch.node_rank)]
        several += ["--main_process_ip", str(launch.main_address)]
    if faults:
        raise ConfigError(faults)
    # Port 0 is a free one; nodes must agree on theirs.
    port = ["--main_process_port", "0" if launch.nodes == 1 else "29500"]
    command = ["accelerate", "launch", "--config_file", str(file), "--num_processes", str(processes)]
    return [*command, *several, *port, "-m", "dst_dist.train"]


def _run(command: Sequence[str]) -> int:
    """Run the launcher to its end. SIGTERM is passed on; a terminal sends Ctrl-C to both."""
    process = subprocess.Popen(command)
    intact = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number)),
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
    }
    try:
        return process.wait()
    finally:
        for number, handler in intact.items():
            signal.signal(number, handler)


def _read(file: Path) -> tuple[int, str] | None:
    """Return a file's time in nanoseconds and its content; None if there is none."""
    return (file.stat().st_mtime_ns, file.read_text(encoding="utf-8")) if file.is_file() else None
