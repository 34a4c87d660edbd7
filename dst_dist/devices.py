"""Decides which device a process computes on: its GPU, or the CPU if the launcher says so or there is no GPU."""

import os
import subprocess

import torch

from dst_dist import launched
from dst_dist.errors import ConfigError


def on_cpu() -> bool:
    """Return whether this process computes on the CPU."""
    return launched.wants_cpu() or not torch.cuda.is_available()


def num_gpus() -> int:
    """Return how many GPUs a training may use here.

    A card that torch does not see and nobody hid counts too: training on the CPU instead would hide what is wrong.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return found if found or "CUDA_VISIBLE_DEVICES" in os.environ else len(listed_gpus())


def listed_gpus() -> list[str]:
    """Return the driver's line of each card; none without a driver."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in listed.splitlines() if line.startswith("GPU ")]


def check_devices() -> None:
    """Raise ConfigError if a process of this node would get no GPU of its own, unless the CPU is wanted.

    Python alone and torchrun name no launch file: without any GPU they train on the CPU, as the log says.
    """
    processes, gpus = launched.num_node_processes(), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if launched.wants_cpu() or processes <= gpus or (gpus == 0 and not launched.is_by_accelerate()):
        return
    remedy = f"pass --num_processes {gpus} for each node" if gpus else _why_none()
    raise ConfigError(
        f"{processes} processes were launched on this node, where torch finds {gpus} GPUs: {remedy}, or use a "
        "launch/cpu_*.yaml to compute on the CPU"
    )


def _why_none() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without GPUs; install a build with them"
    return "see whether `nvidia-smi` and CUDA_VISIBLE_DEVICES show one, and whether the driver is as new as torch wants"
