"""Read the launcher's environment variables; without a launcher there is one process. Imports nothing slow."""

import os


def num_processes() -> int:
    """Return how many processes were launched."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def num_node_processes() -> int:
    """Return how many processes were launched on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Return whether this is the main process, which writes files and logs."""
    return int(os.environ.get("RANK", "0")) == 0


def is_node_leader() -> bool:
    """Return whether this is the process of its node that checks files."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def is_by_accelerate() -> bool:
    """Return whether `accelerate launch` started this process, and not torchrun or Python alone."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ


def wants_cpu() -> bool:
    """Return whether this process is to compute on the CPU, whatever cards there are.

    The `cpu_` files of launch/ say so by `gpu_ids: "-1,-1"`, other files and commands by `use_cpu` or `--cpu`.
    """
    uses_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true"
    return uses_cpu or os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("-")
