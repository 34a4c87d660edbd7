"""`python -m tests.train.broken <kind> <recipe>...`: the same training with one thing broken on purpose."""

import os
import sys

from accelerate import Accelerator

from dst_dist.train import __main__ as entry
from dst_dist.train import engine as engine_module
from dst_dist.train.engine import Engine

intact_backward = Engine.backward


def drop_micro_batch(engine, loss, is_last):
    """A step's first micro-batch of one process adds nothing to the gradient."""
    is_first, engine.next_is_first = getattr(engine, "next_is_first", True), is_last
    intact_backward(engine, loss * (engine.rank != 0 or not is_first), is_last)


def drop_rank(engine, loss, is_last):
    """One process adds nothing to the gradient."""
    intact_backward(engine, loss * (engine.rank != 1), is_last)


def average(engine, loss, is_last):
    """The mean over processes where the sum is wanted."""
    intact_backward(engine, loss / engine.num_processes, is_last)


BACKWARDS = {"micro_batch": drop_micro_batch, "rank": drop_rank, "scaling": average}

if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "world":
        # What anybody would write; on a CPU, each process of FSDP or DeepSpeed then is alone.
        engine_module._build_accelerator = lambda *settings: Accelerator()
    else:
        Engine.backward = BACKWARDS[kind]
    code = entry.main(sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    # As the entry itself ends, whatever threads a broken run leaves.
    os._exit(code)
