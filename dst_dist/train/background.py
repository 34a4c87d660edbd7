"""Runs work in threads, beside which training can go on, and the removal of old checkpoints in one."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dst_dist.logs import logger

THREAD = "checkpoint"
"""Beginning of the threads' names."""


def in_thread(rank: int, work: Callable[[], Any]) -> Future:
    """Call `work` in a thread that ends with it; the result raises what it raised."""
    executor = ThreadPoolExecutor(1, f"{THREAD}-{rank}")
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future


class Remover:
    """Removes folders on the main process, which takes most of a second for gigabytes.

    Args:
        background: whether `remove_all` returns before they are gone.
    """

    def __init__(self, background: bool):
        self.background = background
        self._removal: Future | None = None

    def remove(self, path: Path) -> None:
        """Remove a folder; if that fails, log a warning: a later start tries again."""
        try:
            shutil.rmtree(path)
        except OSError as error:
            logger.warning("%s could not be removed: %s", path, error)

    def remove_all(self, paths: Sequence[Path]) -> None:
        """Remove folders, as `remove` does, after those of the call before."""
        self.wait()
        self._removal = in_thread(0, lambda: [self.remove(path) for path in paths])
        if not self.background:
            self.wait()

    def wait(self) -> None:
        """Wait until the folders are gone."""
        removal, self._removal = self._removal, None
        if removal is not None:
            removal.result()
