"""How a program of one or several processes ends."""

import os
import signal
import sys
import time
from typing import NoReturn

LEADER_SPEAKS_FIRST_S = 5.0


def let_leader_speak() -> None:
    """Most faults are every process's. The node's leader tells of them; the launcher then ends the others, silent."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        # The launcher's SIGTERM is not a request to stop any more.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(LEADER_SPEAKS_FIRST_S)


def leave(code: int) -> NoReturn:
    """End this process at once with an exit code, without finalizing Python.

    Gloo's threads take Python's lock now and then: one that asks for it while Python is finalized aborts the process
    ("terminate called without an active exception"), or keeps it from ending. Data workers may keep it too.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
