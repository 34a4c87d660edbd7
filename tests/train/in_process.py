"""A whole training in this process, which takes seconds less than a launch."""

import contextlib
import logging
import signal
import threading
import warnings

from accelerate.state import AcceleratorState

from dst_dist.train import __main__ as program
from dst_dist.train.background import THREAD
from dst_dist.train.stop import SIGNALS


@contextlib.contextmanager
def own_logging():
    """Undo what a program sets for its whole process: logging, warnings and signal handlers."""
    root, show = logging.getLogger(), warnings.formatwarning
    handlers, level = root.handlers[:], root.level
    on_signal = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in on_signal.items():
            signal.signal(number, handler)
        logging.captureWarnings(False)
        warnings.formatwarning = show
        root.handlers[:] = handlers
        root.setLevel(level)


def train(words):
    """Train in this process; return the exit code."""
    try:
        with own_logging():
            return program.main(words)
    finally:
        # Outside a test the process has ended now, and with it its threads.
        for thread in threading.enumerate():
            if thread.name.startswith(THREAD):
                thread.join()
        AcceleratorState._reset_state(reset_partial_state=True)
