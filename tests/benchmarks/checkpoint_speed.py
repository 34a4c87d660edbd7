"""`python -m tests.benchmarks.checkpoint_speed FOLDER [--gib 4] [--repeats 5]`: a save against plain torch.save.

Both write the same numbers (a model's weights and two moments, float32) to the same disk and flush them; ours makes
checksums, manifest, rename and links too. Prints the median times and their ratio, which should be 1.3 at most; then
how long training stands still for a save in the background, next to one in the foreground.
"""

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path

import torch
from accelerate.utils import DistributedType

from dst_dist.processes import Processes
from dst_dist.run_folder import RunFolder
from dst_dist.train.checkpoint import Checkpoints
from dst_dist.train.engine_state import held_state, stretches

LAYER = 16 << 20
"""Numbers of one layer: 64 MiB."""


class OneProcess(Processes):
    """The part of `Engine` that a save needs."""

    type, device, rank, num_processes = DistributedType.NO, torch.device("cpu"), 0, 1

    def __init__(self, gib: float):
        self.unwrapped = torch.nn.ParameterList(
            torch.randn(LAYER) for _ in range(max(1, int(gib * 2**30 / (3 * 4 * LAYER))))
        )
        self.optimizer = torch.optim.AdamW(self.unwrapped.parameters())

    def gather_objects(self, value):
        return [value]

    def from_main(self, value):
        return value


def seconds(action) -> float:
    os.sync()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def plain_save(engine: OneProcess, file: Path) -> None:
    """torch.save of the same tensors, flushed."""
    with open(file, "wb") as out:
        torch.save({stretch.key: stretch.values for stretch in stretches(held_state(engine))}, out)
        out.flush()
        os.fsync(out.fileno())


def still_seconds(checkpoints: Checkpoints, engine: OneProcess, step: int) -> float:
    """Return how long training stands still for a save: for its beginning, and when it is written for its end."""
    goes_on = []
    began = seconds(lambda: goes_on.append(checkpoints.begin(engine, step, {}, False)))
    while goes_on[0] and checkpoints.is_writing:
        time.sleep(0.01)
    ended = seconds(lambda: checkpoints.complete(engine))
    # Before the next save has to remove it.
    shutil.rmtree(checkpoints.folder / f"step-{step:08d}")
    return began + ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    engine, run = OneProcess(options.gib), options.folder / "checkpoint_speed"
    ways = {background: Checkpoints(RunFolder(run), 2, background=background) for background in (False, True)}
    held_state(engine)  # The moments are made before the clock runs, and host memory for copies is taken.
    ours, plain, still = [], [], []
    run.mkdir(parents=True)
    try:
        still_seconds(ways[True], engine, 0)
        for step in range(1, options.repeats + 1):
            plain.append(seconds(lambda: plain_save(engine, run / "plain.pt")))
            (run / "plain.pt").unlink()
            ours.append(still_seconds(ways[False], engine, 2 * step - 1))
            still.append(still_seconds(ways[True], engine, 2 * step))
    finally:
        shutil.rmtree(run)
    size = sum(stretch.values.nbytes for stretch in stretches(held_state(engine))) / 2**30
    a, b = statistics.median(ours), statistics.median(plain)
    rates = f"save {a:.2f} s ({size / a:.2f} GiB/s), torch.save {b:.2f} s ({size / b:.2f} GiB/s)"
    print(f"{size:.2f} GiB: {rates}, ratio {a / b:.2f}")
    c = statistics.median(still)
    print(f"training stands still: {a:.2f} s in the foreground, {c:.2f} s in the background, ratio {a / c:.1f}")


if __name__ == "__main__":
    main()
