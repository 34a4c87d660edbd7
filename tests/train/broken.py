"""`python -m tests.train.broken <kind> <recipe>...`: the same training with one thing broken on purpose."""

import os
import sys

from accelerate import Accelerator

from dst_dist.exit import leave
from dst_dist.train import __main__ as entry
from dst_dist.train import engine as engine_module
from dst_dist.train.engine import Engine

RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
intact_begin, intact_backward = Engine.begin_micro_batch, Engine.backward


def begin(engine, is_last):
    """Remembers which micro-batch is a step's first."""
    engine.is_first, engine.next_is_first = getattr(engine, "next_is_first", True), is_last
    intact_begin(engine, is_last)


def drop_micro_batch(engine, loss):
    """A step's first micro-batch of one process adds nothing to the gradient."""
    intact_backward(engine, loss * (engine.rank != 0 or not engine.is_first))


def drop_rank(engine, loss):
    """One process adds nothing to the gradient."""
    intact_backward(engine, loss * (engine.rank != 1))


def average(engine, loss):
    """The mean over processes where the sum is wanted."""
    intact_backward(engine, loss / engine.num_processes)


BACKWARDS = {"micro_batch": drop_micro_batch, "rank": drop_rank, "scaling": average}


def alone(*settings):
    """Return an Accelerator that knows nothing of the launcher, as some versions make it for FSDP on a CPU."""
    names = [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_", "MASTER_")) or name in RANKS]
    said = {name: os.environ.pop(name) for name in names}
    try:
        return Accelerator(cpu=True)
    finally:
        os.environ.update(said)


if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "world":
        engine_module._build_accelerator = alone
    else:
        Engine.begin_micro_batch = begin
        Engine.backward = BACKWARDS[kind]
    leave(entry.main(sys.argv[2:]))
