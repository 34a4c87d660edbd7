"""`python -m tests.train.broken <kind> <recipe>...`: the same training with one thing broken on purpose."""

import sys

from accelerate import Accelerator

from dst_dist.exit import leave
from dst_dist.train import __main__ as entry
from dst_dist.train import engine as engine_module
from dst_dist.train.engine import Engine

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

if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "world":
        # What anybody would write; on a CPU, each process of FSDP or DeepSpeed then is alone.
        engine_module._build_accelerator = lambda *settings: Accelerator()
    else:
        Engine.begin_micro_batch = begin
        Engine.backward = BACKWARDS[kind]
    leave(entry.main(sys.argv[2:]))
