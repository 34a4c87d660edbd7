"""Ends of a program: one process prints the error, and Python is not finalized."""

import signal
import subprocess
import sys

import pytest

from dst_dist import exit as ending


@pytest.mark.parametrize("rank, slept", [("0", []), ("1", [ending.LEADER_SPEAKS_FIRST_S])])
def test_every_process_but_the_leader_waits(monkeypatch, rank, slept):
    waits, handlers = [], []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(ending.time, "sleep", waits.append)
    monkeypatch.setattr(ending.signal, "signal", lambda *handler: handlers.append(handler))
    ending.let_leader_speak()
    assert waits == slept
    # While it waits, the launcher's SIGTERM ends it.
    assert handlers == [(signal.SIGTERM, signal.SIG_DFL)] * len(slept)


PROGRAM = """
import atexit, sys, threading, time
from dst_dist.exit import leave
atexit.register(print, "finalized")
threading.Thread(target=time.sleep, args=[60]).start()
sys.stdout.write("out")
sys.stderr.write("err")
leave(85)
"""


def test_leave_writes_what_is_buffered_and_waits_for_nothing():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stdout, ended.stderr) == (85, "out", "err")
