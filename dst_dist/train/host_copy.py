"""Copies training state to host memory, from which a save is written while training goes on."""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch

from dst_dist.launched import num_node_processes
from dst_dist.logs import logger
from dst_dist.train.state_files import Stretch

MACHINE = Path("/proc/meminfo")
MOST_OF_AVAILABLE = 0.5
"""Share of the available memory that the copies of a node's processes may take: data workers need some too."""
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
ALIGNMENT = 64
"""Bytes; every stretch begins at a multiple."""


class HostCopy:
    """Host memory for one process's part of a save, used again by every save.

    Args:
        state: the stretches that this process writes; later saves have the same names and sizes.
    """

    def __init__(self, state: Sequence[Stretch], device: torch.device):
        self.device = device
        sizes = (math.ceil(stretch.values.nbytes / ALIGNMENT) * ALIGNMENT for stretch in state)
        *self.starts, self.num_bytes = accumulate(sizes, initial=0)

    @property
    def fits(self) -> bool:
        """Whether the copies of all processes of this node fit into its available memory."""
        # Pinned memory is given out in powers of two.
        num_bytes = 1 << max(0, self.num_bytes - 1).bit_length() if self._is_pinned else self.num_bytes
        return num_bytes * num_node_processes() <= MOST_OF_AVAILABLE * available_memory()

    @property
    def _is_pinned(self) -> bool:
        return self.device.type == "cuda"

    def allocate(self) -> None:
        """Take the memory; on a GPU's host it is pinned, which makes the copy several times as fast."""
        try:
            self.memory = torch.empty(self.num_bytes, dtype=torch.uint8, pin_memory=self._is_pinned)
        except RuntimeError as error:
            logger.warning("host memory for saves cannot be pinned, so their copies take longer: %s", error)
            self.memory = torch.empty(self.num_bytes, dtype=torch.uint8)

    def take(self, state: Sequence[Stretch]) -> list[Stretch]:
        """Copy the state as it is now and return it, valid until the next call."""
        copies = []
        for stretch, start in zip(state, self.starts, strict=True):
            values = self.memory[start : start + stretch.values.nbytes].view(stretch.values.dtype)
            values.copy_(stretch.values.detach(), non_blocking=True)
            copies.append(Stretch(stretch.name, stretch.start, values))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return copies


def available_memory() -> int:
    """Return the bytes that the processes of this node may still take: of the machine, their job and container."""
    values = dict(line.split(":") for line in MACHINE.read_text(encoding="utf-8").splitlines())
    return min([int(values["MemAvailable"].split()[0]) << 10, *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """Return the bytes left in each cgroup (v2 or v1) with a memory limit that this process is in."""
    left = []
    for folder, limit_name, usage_name, cache_name in _memory_groups():
        limit, usage, stat = (folder / name for name in (limit_name, usage_name, "memory.stat"))
        if (
            all(file.is_file() for file in (limit, usage, stat))
            and (text := limit.read_text(encoding="utf-8").strip()) != "max"
        ):
            # The usage counts cached files, which give way.
            cached = dict(line.split() for line in stat.read_text(encoding="utf-8").splitlines()).get(cache_name, "0")
            left.append(int(text) - int(usage.read_text(encoding="utf-8")) + int(cached))
    return left


def _memory_groups() -> list[tuple[Path, str, str, str]]:
    """Return folder and file names of this process's memory cgroup and of all above it."""
    groups = []
    for line in OWN_CGROUPS.read_text(encoding="utf-8").splitlines() if OWN_CGROUPS.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = root / path.lstrip("/")
        groups += [(folder, *names) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return groups
