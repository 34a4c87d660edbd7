"""`python -m tests.train.waiting <where> <recipe>...`: the same training; one place in it waits for ever.

Where: `check`, in which the main process looks at the data; `load`, in which the model is read; `data`, the first
micro-batch; `worker`, the same in a data worker. The file <output_dir>.waits is there once it waits.
"""

import sys
import time
from pathlib import Path

from dst_dist.data.dataset import SampleDataset
from dst_dist.exit import leave
from dst_dist.setup import DataSetup
from dst_dist.train import __main__ as program
from dst_dist.train import loop, stop

stop.PATIENCE_S, stop.LOOK_EVERY_S = 0.5, 0.1


def note() -> None:
    """Make the file that says that this process waits, or is about to wait for its worker."""
    folder = next(word.removeprefix("output_dir=") for word in sys.argv if word.startswith("output_dir="))
    Path(f"{folder}.waits").touch()


def wait(*_) -> None:
    note()
    time.sleep(600)


def step(*arguments):
    """Train a step, after the request to stop was looked at."""
    note()
    return intact(*arguments)


PLACES = {"check": (DataSetup, "check"), "load": (loop, "load_model"), "data": (SampleDataset, "__getitem__")}
intact = loop.optimizer_step

if __name__ == "__main__":
    if sys.argv[1] == "worker":
        SampleDataset.__getitem__ = lambda *_: time.sleep(600)
        loop.optimizer_step = step
    else:
        setattr(*PLACES[sys.argv[1]], wait)
    leave(program.main(sys.argv[2:]))
