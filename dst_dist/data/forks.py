"""Spreads work at the start of a run over the cores of the main process, and logs its progress."""

import atexit
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from operator import attrgetter
from typing import Any

from dst_dist.logs import logger

SAY_EVERY_S = 30.0

# What the main process left for its garbage collector stays uncollected in every process forked from it: a video
# decoder, for one, would wait for ever for its threads, which only the main process has.
os.register_at_fork(after_in_child=gc.freeze)


def in_workers(
    function: Callable[[Any], Any], items: Sequence[Any], sizes: Sequence[int], what: str, num_workers: int
) -> Iterator[Any]:
    """Yield the function's result for each item, in order.

    The workers are forked, so the function may hold what cannot be sent; its results are sent.

    Args:
        sizes: amount of work in each item, for a log line every SAY_EVERY_S; nothing for what is faster.
        what: the kind of work, for the same line.
        num_workers: processes; with fewer than 2, or a single item, this one does the work.
    """
    num_workers = min(num_workers, len(items))
    results = _from_forks(function, items, num_workers) if num_workers > 1 else map(function, items)
    total, done = sum(sizes), 0
    start_s = said_s = time.monotonic()
    for result, size in zip(results, sizes, strict=True):
        done += size
        now_s = time.monotonic()
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            logger.info("%s: %d of %d, %.0f a second", what, done, total, done / (now_s - start_s))
        yield result


def _from_forks(function: Callable[[Any], Any], items: Sequence[Any], num_workers: int) -> Iterator[Any]:
    """Yield the results; worker k of n does the items k, k + n, ... and waits when its pipe is full."""
    fork = multiprocessing.get_context("fork")
    receivers: list[Connection] = []
    workers: list[multiprocessing.Process] = []
    try:
        for number in range(num_workers):
            receiver, sender = fork.Pipe(duplex=False)
            receivers.append(receiver)
            own = items[number::num_workers]
            workers.append(fork.Process(target=_work, args=(function, own, sender, list(receivers)), daemon=True))
            workers[-1].start()
            sender.close()
        for number in range(len(items)):
            result, error = _receive(receivers[number % num_workers], workers[number % num_workers])
            if error is not None:
                raise error
            yield result
    finally:
        for receiver, worker in zip(receivers, workers, strict=False):
            receiver.close()
            worker.kill()
            worker.join()


def _receive(receiver: Connection, worker: multiprocessing.Process) -> tuple[Any, Exception | None]:
    """Return what a worker sent. Raises RuntimeError if it was ended."""
    try:
        return receiver.recv()
    except EOFError as error:
        worker.join()
        raise RuntimeError(
            f"a process that reads data was ended (exit code {worker.exitcode}; -9 is most often a lack of memory); "
            "data.num_workers=0 reads in one process"
        ) from error


def _work(
    function: Callable[[Any], Any], items: Sequence[Any], sender: Connection, receivers: Sequence[Connection]
) -> None:
    """Send the result of each item, or the error; end when nobody receives, however the main process ended."""
    leave_signals_to_the_trainer()
    for receiver in receivers:
        receiver.close()
    with suppress(BrokenPipeError):
        for item in items:
            try:
                sender.send((function(item), None))
            except BrokenPipeError:
                raise
            except Exception as error:
                sender.send((None, error))


def leave_signals_to_the_trainer() -> None:
    """Ignore the signals that ask the trainer to stop; sent to its process group, they reach the workers too."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """Kill the workers that are left when Python ends, as after an error.

    Python itself would send them SIGTERM, which they ignore, and wait for ever. They are daemons; other processes of a
    program are left alone.
    """
    # Torch would raise an error for each.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in filter(attrgetter("daemon"), multiprocessing.active_children()):
        worker.kill()
