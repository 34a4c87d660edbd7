"""`python -m tests.train.killing <recipe>...`: the same training with faults, and with a record of what it does.

Environment variables:
    FAULT=kill:inside rename:0:1   SIGKILL (or `full`: the disk is full) at a point, of a rank, the first time there
    FAULT_LOG=FILE                 a line `rank point` for each point that is passed
    IDS=FOLDER                     `<rank>.jsonl`: the clips of each micro-batch
    LOADED=FOLDER                  the state right after loading, as a checkpoint has it, and digests of the weights
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from dst_dist.exit import leave
from dst_dist.train import __main__ as program
from dst_dist.train import checkpoint, final, loop, state_files, step, writer
from dst_dist.train.background import Remover
from dst_dist.train.checkpoint import UNFINISHED, Checkpoints
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

    def pieces(intact, head, of_stretches):
        for number, piece in enumerate(intact(head, of_stretches)):
            if number == 1:
                fault("inside file")
            yield piece

    def write_stretches(intact, path, of_stretches):
        is_state = path.name.startswith("state-")
        if is_state:
            fault("before state")
        digest = intact(path, of_stretches)
        fault("after state" if is_state else "after random")
        return digest

    def flush(intact, path):
        is_temporary = UNFINISHED in path.name
        if not is_temporary:
            fault("after rename")
        intact(path)
        if is_temporary:
            fault("before rename")

    def link(intact, checkpoints, name, target):
        fault(f"before link {name}")
        intact(checkpoints, name, target)
        fault(f"after link {name}")

    def point_to(intact, path, target):
        intact(path, target)
        fault(f"inside link {path.name.split('.')[1]}")

    def rmtree(intact, path, **options):
        if not options:
            fault("inside prune")
        intact(path, **options)

    def passing(before=None, after=None):
        def call(intact, *arguments):
            if before is not None:
                fault(before)
            result = intact(*arguments)
            if after is not None:
                fault(after)
            return result

        return call

    around = [
        (state_files, "_pieces", pieces),
        (writer, "write_stretches", write_stretches),
        (writer, "write_flushed", passing(after="after training")),
        (checkpoint, "write_whole", passing("before manifest", "after manifest")),
        (checkpoint, "flush", flush),
        (Checkpoints, "_link", link),
        (checkpoint, "point_to", point_to),
        (checkpoint, "pointed_to", passing("before prune")),
        (shutil, "rmtree", rmtree),
        (Remover, "remove_all", passing(after="after prune")),
        (final, "save_model", passing(after="inside final")),
        (step, "compute_loss", passing(AT_WORK)),
    ]
    with contextlib.ExitStack() as stack:
        for place, name, call in around:
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, wrapped(getattr(place, name), call))
        yield


def wrapped(intact: Callable, call: Callable) -> Callable:
    """Return a function that calls `call` with the intact one before its arguments; it may stand in a class."""
    return lambda *arguments, **options: call(intact, *arguments, **options)


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
