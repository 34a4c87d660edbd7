"""Stopping on request: a `STOP` file in the run folder, or SIGTERM or SIGUSR1 to the worker processes."""

import os
import signal
import time

from dst_dist.exit import FAILED
from dst_dist.train.held_folder import HeldFolder

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
ONE_REQUEST_S = 2.0
"""Signals within this time are one request: a cluster signals the workers and the launcher, which passes it on."""


class StopRequest:
    """Knows whether this process was asked to stop. The loop asks all processes before it stops.

    The first signal only raises a flag, which is looked at once an optimizer step and between the
    micro-batches of an evaluation. One that comes later leaves at once; checkpoints are safe at any instant.
    """

    def __init__(self, run: HeldFolder, watches_file: bool):
        self.run = run
        self.file = run.stop_file
        self.watches_file = watches_file
        self.first_signal_s: float | None = None

    def listen(self) -> None:
        """Handle the signals from here on; called before anything slow."""
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
        """Return whether a signal or, where this process watches it, the file asks to stop."""
        return self.first_signal_s is not None or (self.watches_file and self.file.exists())

    def obeyed(self) -> None:
        """Remove the file, so that the same command continues.

        Signals mean nothing from here on: the launcher sends one to the processes that end after the first.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self.watches_file:
            self.file.unlink(missing_ok=True)
