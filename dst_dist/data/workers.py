"""Decides how many processes decode frames for a training process."""

import math
import os
from pathlib import Path
from typing import Literal

from dst_dist.launched import num_node_processes

FEWEST, MOST = 1, 8
"""Limits of `auto`. Four workers decode 720p frames faster than an H100 encodes them."""
CGROUPS = Path("/sys/fs/cgroup")

Asked = int | Literal["auto"]
"""`data.num_workers`."""


def num_workers(asked: Asked) -> int:
    """Return the data workers of this process: as asked, or by this node's cores, of which each process keeps one."""
    if asked != "auto":
        return asked
    return min(max(num_cores() // num_node_processes() - 1, FEWEST), MOST)


def num_cores() -> int:
    """Return how many cores the processes of this node may use: those of its job or container, not of the machine."""
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), _container_limit())))


def _container_limit() -> float:
    """Return the CPU time a second that the container may use, by cgroups v2 or v1; infinite without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        files = [CGROUPS / name for name in names]
        if all(file.is_file() for file in files):
            quota, period = " ".join(file.read_text(encoding="utf-8") for file in files).split()
            return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    return math.inf
