"""`python -m tests.train.slow <recipe>...`: the same training; each step but the first takes SLOW_S seconds more."""

import itertools
import os
import sys
import time

from dst_dist.exit import leave
from dst_dist.train import __main__ as program
from dst_dist.train import loop

SLOW_S = float(os.environ.get("SLOW_S", "5"))
intact, calls = loop.optimizer_step, itertools.count()


def slow_step(*arguments):
    if next(calls):
        stop = time.monotonic() + SLOW_S
        # In pieces, between which Python looks at signals as it does in a step.
        while time.monotonic() < stop:
            time.sleep(0.01)
    return intact(*arguments)


if __name__ == "__main__":
    loop.optimizer_step = slow_step
    leave(program.main(sys.argv[1:]))
