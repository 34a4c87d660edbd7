"""Stop on request: a `STOP` file in the run folder, or SIGTERM or SIGUSR1 to the worker processes."""

import os
import signal
import time

from dst_dist.exit import FAILED
from dst_dist.train.held_folder import HeldFolder

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
ONE_REQUEST_S = 2.0
"""Signals within this time are one request: a cluster signals the workers, and the launcher, which passes it on."""


class StopRequest:
    """Whether this process was asked to stop. Before they do, all processes must agree (`Trainer.run`).

    The first signal sets a flag that is read once an optimizer step and between the micro-batches of an evaluation.
    A later signal ends the process at once; checkpoints are safe at any instant.

    Args:
        watches_file: whether this process looks for the `STOP` file.
    """

    def __init__(self, run: HeldFolder, watches_file: bool):
        self.run, self.watches_file = run, watches_file
        self.first_signal_s: float | None = None

    def listen(self) -> None:
        """Install the signal handlers; called before anything slow."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.first_signal_s is None:
            self.first_signal_s = time.monotonic()
        elif time.monotonic() - self.first_signal_s > ONE_REQUEST_S:
            self.run.write_status(FAILED, "left at once at a second signal; the same command continues")
            os._exit(FAILED)

    @property
    def is_asked(self) -> bool:
        """Whether there was a signal, or there is a file that this process watches."""
        return self.first_signal_s is not None or (self.watches_file and self.run.stop_file.exists())

    def obeyed(self) -> None:
        """Remove the file, so that the same command continues, and ignore signals from now on.

        The launcher sends one to the processes that end after the first.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self.watches_file:
            self.run.stop_file.unlink(missing_ok=True)
