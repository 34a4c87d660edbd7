"""Runs in this process that are cut at a chosen instant, as a kill would."""

import pytest

from tests.train.in_process import train
from tests.train.killing import Faults, installed


class Cut(BaseException):
    """Raised where a test cuts a run in this process; nothing catches it."""


def cut():
    raise Cut


def cut_run(words, *points):
    """Start a run again and again, cut each time at the next point's n-th passing; then to its end."""
    for point, nth in points:
        with installed(Faults(cut, point, nth)), pytest.raises(Cut):
            train(words)
    assert train(words) == 0
