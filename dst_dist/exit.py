"""Defines exit codes, and ends a program of one or several processes."""

import os
import signal
import sys
import time
from typing import NoReturn

from dst_dist.launched import is_node_leader

DONE, FAILED, BAD_USAGE, STOPPED = 0, 1, 2, 85
"""Done; failed; the command line, recipe or data is at fault; stopped on request, the same command continues."""
LEADER_SPEAKS_FIRST_S = 5.0


def let_leader_speak() -> None:
    """Wait on every process but the node's leader, which prints the error; then the launcher ends the others."""
    if not is_node_leader():
        # The launcher's SIGTERM is no longer a request to stop.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(LEADER_SPEAKS_FIRST_S)


def leave(code: int) -> NoReturn:
    """End this process at once with an exit code, without finalizing Python.

    Gloo's threads take Python's lock now and then. A thread that asks for it while Python is finalized aborts the
    process ("terminate called without an active exception") or keeps it from ending. Data workers may do the same.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
