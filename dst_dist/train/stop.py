"""Stops on request: by a `STOP` file in the run folder, or SIGTERM or SIGUSR1 to the worker processes."""

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from dst_dist.exit import FAILED, STOPPED
from dst_dist.train.held_folder import HeldFolder

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
ONE_REQUEST_S = 2.0
"""Signals within this time are one request: a cluster signals the workers, and the launcher, which passes it on."""
PATIENCE_S = 25.0
"""Time that a request waits for a process that waits for something itself; the launcher kills after 30 s."""
LOOK_EVERY_S = 1.0
SAY_EVERY_S = 60.0

Item = TypeVar("Item")


class StopRequest:
    """Knows whether this process was asked to stop. All processes must agree before they stop (`Trainer.run`).

    The first signal sets a flag that is read once an optimizer step and between the micro-batches of an evaluation.
    A later signal ends the process at once; checkpoints are safe at any instant.

    A thread watches, since Python runs no signal handler while the main thread waits in a library. It ends a process
    that was asked to stop and does not come to its next step because it waits: for the others to join it (at once),
    for the start to be over or for data (after PATIENCE_S).

    Args:
        watches_file: whether this process looks for the `STOP` file.
    """

    def __init__(self, run: HeldFolder, watches_file: bool):
        self.run, self.watches_file = run, watches_file
        self.first_signal_s: float | None = None
        self._waits_for, self._waits_since_s, self._patience_s = "the other processes", time.monotonic(), 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to signals within the block; entered before anything slow."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), name="stop", daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(writer)

    def joined(self) -> None:
        """Note that all processes have joined; until its first step this one still has nothing to save."""
        self._waits_for, self._patience_s = "the start", PATIENCE_S

    def started(self) -> None:
        """Note that the steps begin."""
        self._waits_for = ""

    def watched(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Yield an iterator's items; the thread knows while this process waits for one."""
        while True:
            self._waits_since_s, self._waits_for = time.monotonic(), "data"
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self._waits_for = ""
            yield batch

    def _watch(self, reader: int) -> None:
        """Act on signals, and on requests that are not obeyed, until the pipe is closed."""
        said_s = time.monotonic()
        while True:
            if select.select([reader], [], [], LOOK_EVERY_S)[0]:
                arrived = os.read(reader, 64)
                if not arrived:
                    os.close(reader)
                    return
                for number in set(arrived) & set(SIGNALS):
                    self._on_signal(number)
            self._leave_if_it_waits()
            waited_s = time.monotonic() - self._waits_since_s
            if self._waits_for == "data" and min(waited_s, time.monotonic() - said_s) > SAY_EVERY_S:
                said_s = time.monotonic()
                logging.getLogger("dst_dist").warning("waiting for data for %.0f s: is its storage slow?", waited_s)

    def _on_signal(self, number: int, frame: object = None) -> None:
        if self.first_signal_s is None:
            self.first_signal_s = time.monotonic()
        elif time.monotonic() - self.first_signal_s > ONE_REQUEST_S:
            self.run.write_status(FAILED, "left at once at a second signal; the same command continues")
            os._exit(FAILED)

    def _leave_if_it_waits(self) -> None:
        """End this process if it was asked to stop but waits for something that may never come."""
        what, asked_s = self._waits_for, self.first_signal_s
        waited_s = time.monotonic() - self._waits_since_s
        if asked_s is None and what == "data" and waited_s > self._patience_s and self.run.stop_file.exists():
            # The main process, which watches the file, may itself wait for this one.
            self.run.stop_file.unlink(missing_ok=True)
            asked_s = self._waits_since_s
        if not what or asked_s is None or min(waited_s, time.monotonic() - asked_s) < self._patience_s:
            return
        reason = f"stopped on request while it waited for {what}; the same command continues"
        # If another process has failed, this one was asked because of it, and that reason stays.
        self.run.write_status(STOPPED, reason, replaces=False)
        os._exit(STOPPED)

    @property
    def is_asked(self) -> bool:
        """Whether there was a signal, or there is a `STOP` file and this process looks for it."""
        return self.first_signal_s is not None or (self.watches_file and self.run.stop_file.exists())

    def obeyed(self) -> None:
        """Remove the file, so that the same command continues, and ignore signals from now on.

        The launcher sends one to the processes that end after the first.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self.watches_file:
            self.run.stop_file.unlink(missing_ok=True)
