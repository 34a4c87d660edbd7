"""`python -m tests.train.killing <recipe>...`: the same training with faults, and with a record of what it does.

Environment variables:
    FAULT=kill:inside rename:0:1   SIGKILL (or `full`: the disk is full) at a point, of a rank, the first time there
    FAULT_LOG=FILE                 a line `rank point` for each point that is passed
    IDS=FOLDER                     `<rank>.jsonl`: the clips of each micro-batch
    LOADED=FOLDER                  the state right after loading, as a checkpoint has it, and digests of the weights
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from dst_dist.exit import leave
from dst_dist.train import __main__ as program
from dst_dist.train import final, loop, state_files, step
from dst_dist.train.checkpoint import Checkpoints
from dst_dist.train.engine_state import held_state, stretches
from dst_dist.train.state_files import write_stretches

RANK = int(os.environ.get("RANK", "0"))
POINTS = (
    "before state",
    "inside file",
    "after state",
    "after random",
    "after training",
    "before manifest",
    "after manifest",
    "before rename",
    "after rename",
    "before link last",
    "inside link last",
    "after link last",
    "before link best",
    "inside link best",
    "after link best",
    "before prune",
    "inside prune",
    "after prune",
    "inside final",
)
"""Every instant of a save (and of writing `final/`) at which a fault can be injected."""
AT_WORK = "inside accumulation"
"""The point between forward and backward of each micro-batch."""
NOT_ON_MAIN = {"before state", "inside file", "after state", "after random"}
"""The points that the other processes pass too."""

Fault = Callable[[str], None]


class Faults:
    """Called at each point; injects the fault at one of them, once.

    Args:
        kind: `kill`, `full`, or a function to call.
        nth: the first, second, ... time that this process passes the point.
    """

    def __init__(self, kind: str | Callable[[], None], point: str, nth: int = 1, log: Path | None = None):
        self.kind, self.point, self.nth, self.log = kind, point, nth, log

    def __call__(self, point: str) -> None:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{RANK} {point}\n")
        if point == self.point:
            self.nth -= 1
            if self.nth == 0:
                self.happen(point)

    def happen(self, point: str) -> None:
        if callable(self.kind):
            self.kind()
        elif self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), point)


@contextlib.contextmanager
def installed(fault: Fault):
    """Make trainings in this process call `fault` at each point."""
    intact = loop.Checkpoints, state_files._pieces, final.save_model, step.compute_loss

    def pieces(head, of_stretches):
        for number, piece in enumerate(intact[1](head, of_stretches)):
            if number == 1:
                fault("inside file")
            yield piece

    def save_model(model, weights, folder):
        intact[2](model, weights, folder)
        fault("inside final")

    def compute_loss(*arguments):
        fault(AT_WORK)
        return intact[3](*arguments)

    loop.Checkpoints, state_files._pieces = functools.partial(Checkpoints, fault=fault), pieces
    final.save_model, step.compute_loss = save_model, compute_loss
    try:
        yield
    finally:
        loop.Checkpoints, state_files._pieces, final.save_model, step.compute_loss = intact


def record_ids(folder: Path) -> None:
    """Write the clips of each micro-batch as it is trained."""
    intact = loop.optimizer_step

    def optimizer_step(engine, recipe, data, batches, counts):
        return intact(engine, recipe, data, noted(data, batches), counts)

    def noted(data, batches):
        for batch in batches:
            clips = [data.sample_id(draw.sample) for draw in batch.spec.draws]
            with open(folder / f"{RANK}.jsonl", "a") as file:
                file.write(json.dumps([batch.spec.step + 1, batch.spec.epoch, clips]) + "\n")
            yield batch

    folder.mkdir(parents=True, exist_ok=True)
    loop.optimizer_step = optimizer_step


def record_loaded(folder: Path) -> None:
    """Write the state right after it was loaded."""
    intact = loop.resume

    def resume(engine, *others):
        progress = intact(engine, *others)
        folder.mkdir(parents=True, exist_ok=True)
        write_stretches(folder / f"state-{RANK:05d}.safetensors", stretches(held_state(engine)))
        digest = hashlib.sha256()
        for _, parameter in engine.unwrapped.named_parameters():
            whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            digest.update(whole.detach().float().contiguous().numpy().tobytes())
        rates = [
            {key: value for key, value in group.items() if key != "params"} for group in engine.optimizer.param_groups
        ]
        (folder / f"{RANK}.json").write_text(
            json.dumps({"weights": digest.hexdigest(), "groups": rates, "step": progress.step})
        )
        return progress

    loop.resume = resume


def main(words: list[str]) -> int:
    settings = os.environ
    kind, point, rank, nth = settings.get("FAULT", "none::0:0").split(":")
    fault = Faults(
        kind,
        point if int(rank) == RANK else "",
        int(nth),
        Path(settings["FAULT_LOG"]) if "FAULT_LOG" in settings else None,
    )
    if "IDS" in settings:
        record_ids(Path(settings["IDS"]))
    if "LOADED" in settings:
        record_loaded(Path(settings["LOADED"]))
    with installed(fault):
        return program.main(words)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
