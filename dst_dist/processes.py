"""Exchanges values between the processes of a run, in training and evaluation."""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from dst_dist import launched
from dst_dist.devices import check_devices, on_cpu
from dst_dist.errors import ConfigError

PATIENCE = timedelta(days=1)
"""Time that a process waits for the others: one has the longest videos, and one checks all frames at first. NCCL's
default of ten minutes would end them. If one fails, the launcher ends the others anyway."""


class Processes:
    """This process's rank, and the collectives: all processes must call one together.

    Raises:
        ConfigError: if not every launched process has joined. Each group would repeat the whole work.
    """

    def __init__(self, rank: int, num_processes: int, device: torch.device):
        self.rank, self.num_processes, self.device = rank, num_processes, device
        running = dist.get_world_size() if dist.is_initialized() else 1
        if not launched.num_processes() == num_processes == running:
            raise ConfigError(
                f"{launched.num_processes()} processes were launched, but Accelerate sees {num_processes} and torch "
                f"{running}; use one of the files in launch/ unchanged and pass --num_processes"
            )

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes files and logs."""
        return self.rank == 0

    def own_share(self, sizes: Mapping[str, int]) -> list[str]:
        """Return this process's items: the largest first, each goes to the process with the least so far."""
        loads, shares = [0] * self.num_processes, [[] for _ in range(self.num_processes)]
        for item, size in sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0])):
            least = loads.index(min(loads))
            loads[least] += size
            shares[least].append(item)
        return shares[self.rank]

    def sum_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise sum, the same on every process (collective)."""
        values = values.to(self.device)
        if self.num_processes > 1:
            dist.all_reduce(values)
        return values

    def any_process(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set on any process (one collective)."""
        return (self.sum_over_processes(torch.tensor(flags, dtype=torch.float32)) > 0).tolist()

    def gather_objects(self, value: Any) -> list[Any]:
        """Return one picklable value of each process, in order of rank, on every process (collective)."""
        return gather_object([value])

    def from_main(self, value: Any) -> Any:
        """Return the main process's value on every process (collective)."""
        return broadcast_object_list([value])[0]

    def on_every(self, action: Callable[[], Any]) -> list[Any]:
        """Return the results of each process's call, in order of rank (collective).

        Raises:
            OSError: on every process, if the call raised it on any. Otherwise the others would wait for ever.
        """
        result, error = None, None
        try:
            result = action()
        except OSError as raised:
            error = raised
        outcomes = self.gather_objects((result, error and str(error)))
        messages = [message for _, message in outcomes if message is not None]
        if messages:
            raise error or OSError(f"on another process: {messages[0]}")
        return [result for result, _ in outcomes]

    def on_main(self, action: Callable[[], Any]) -> None:
        """Call on the main process while the others wait; OSError on all of them if it failed (collective)."""
        self.on_every(action if self.is_main else lambda: None)


def start_processes() -> Processes:
    """Join the launched processes and return this one; each holds the whole model (collective).

    Raises:
        ConfigError: if a process would get no GPU under a launch file for GPUs, or not all processes joined.
    """
    # Nothing is sharded here, so that a launch file of any training engine works too.
    for engine in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        os.environ.pop(engine, None)
    check_devices()
    state = PartialState(cpu=on_cpu(), timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes, state.device)
