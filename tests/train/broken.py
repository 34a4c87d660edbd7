"""`python -m tests.train.broken <kind> <recipe>...`: the same training with one thing broken on purpose."""

import os
import sys

from dst_dist.train import __main__ as entry
from dst_dist.train.engine import Engine

intact_backward = Engine.backward


def drop_micro_batch(engine, loss, is_last):
    """Only a step's last micro-batch counts, as with accumulation 1 in DeepSpeed's JSON."""
    if is_last:
        intact_backward(engine, loss, is_last)


def drop_rank(engine, loss, is_last):
    """One process adds nothing to the gradient."""
    intact_backward(engine, loss * (engine.rank != 1), is_last)


def average(engine, loss, is_last):
    """The mean over processes where the sum is wanted."""
    intact_backward(engine, loss / engine.num_processes, is_last)


KINDS = {"micro_batch": drop_micro_batch, "rank": drop_rank, "scaling": average}

if __name__ == "__main__":
    Engine.backward = KINDS[sys.argv[1]]
    sys.stdout.flush()
    # As the entry itself ends, and whatever threads a broken run leaves.
    code = entry.main(sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
