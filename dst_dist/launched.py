"""What the launcher's environment says of this process; one process without a launcher. Imports nothing slow."""

import os


def rank() -> int:
    """Return this process's number among all that were launched."""
    return int(os.environ.get("RANK", "0"))


def num_processes() -> int:
    """Return how many processes were launched."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def num_node_processes() -> int:
    """Return how many processes were launched on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Return whether this is the one process that writes files and logs."""
    return rank() == 0


def is_node_leader() -> bool:
    """Return whether this is the one process of its node that looks at files."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0
