"""A whole training in this process: seconds less than a launch."""

import contextlib
import logging
import warnings

from accelerate.state import AcceleratorState

from dst_dist.train import __main__ as program


@contextlib.contextmanager
def own_logging():
    """What a program sets for its whole process is set back."""
    root, show = logging.getLogger(), warnings.formatwarning
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    warnings.formatwarning = show
    root.handlers[:] = handlers
    root.setLevel(level)


def train(words):
    """A whole training in this process; gives the exit code."""
    with own_logging():
        code = program.main(words)
    AcceleratorState._reset_state(reset_partial_state=True)
    return code
