"""The processes of a run and their collectives, for training and evaluation alike."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list, gather_object

from dst_dist import launched
from dst_dist.errors import ConfigError


class Processes:
    """This process among all that were launched. All processes call its collectives together.

    Raises:
        ConfigError: if the processes that run are not those that were launched; each would do all the work.
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
        """Return whether this is the one process that writes files and logs."""
        return self.rank == 0

    def sum_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise sum, the same on every process (collective)."""
        values = values.to(self.device)
        if self.num_processes > 1:
            dist.all_reduce(values)
        return values

    def any_process(self, flag: bool) -> bool:
        """Return whether the flag is set on any process (collective)."""
        return bool(self.sum_over_processes(torch.tensor([float(flag)])) > 0)

    def gather_objects(self, value: Any) -> list[Any]:
        """Return one picklable value of each process, in order of rank, on every process (collective)."""
        return gather_object([value])

    def from_main(self, value: Any) -> Any:
        """Return the main process's value on every process (collective)."""
        return broadcast_object_list([value])[0]

    def on_every(self, action: Callable[[], Any]) -> list[Any]:
        """Return what each process's call returns, in order of rank (collective).

        Raises:
            OSError: on every process, if the call failed so on any; without it the others would wait for that one.
        """
        result, problem = None, None
        try:
            result = action()
        except OSError as error:
            problem = error
        outcomes = self.gather_objects((result, str(problem) if problem else None))
        texts = [text for _, text in outcomes if text is not None]
        if texts:
            raise problem or OSError(f"on another process: {texts[0]}")
        return [result for result, _ in outcomes]

    def on_main(self, action: Callable[[], Any]) -> None:
        """Call on the main process while the others wait; OSError on all of them if it failed (collective)."""
        self.on_every(action if self.is_main else lambda: None)
