"""Writes this process's files of a checkpoint: from a copy in host memory, or while training waits."""

import json
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dst_dist.logs import logger
from dst_dist.train.background import in_thread
from dst_dist.train.engine import Engine
from dst_dist.train.engine_state import held_state, random_state, stretches, trained_shapes
from dst_dist.train.host_copy import HostCopy
from dst_dist.train.state_files import Stretch, write_flushed, write_stretches

TRAINING = "training.json"


@dataclass(frozen=True)
class Written:
    """The files that a process wrote, and the time it took."""

    files: dict[str, dict[str, Any]]
    """The manifest's entry of each file, by name."""
    elapsed_s: float


class Writer:
    """Writes the files of one process, save after save, each of them after the one before is done.

    Args:
        background: whether training goes on meanwhile if there is host memory for a copy; the first save decides.
    """

    def __init__(self, background: bool):
        self.background = background
        """`background` is the same on every process, and False from the first save on if there is no memory."""
        self._copy: HostCopy | None = None

    def begin(self, engine: Engine, folder: Path, training: dict[str, Any]) -> Future[Written]:
        """Begin to write the state as it is now, in a thread (collective).

        Unless `background` is true afterwards, the state must not change until the thread is done.
        """
        state, random = stretches(held_state(engine)), random_state(engine.device)
        if self.background and self._copy is None:
            self._decide(engine, state)
        if self._copy is not None:
            state = self._copy.take(state)
        text = json.dumps({**training, "shapes": trained_shapes(engine)}, indent=2) + "\n" if engine.is_main else None
        return in_thread(engine.rank, lambda: _write(engine.rank, folder, state, random, text))

    def _decide(self, engine: Engine, state: list[Stretch]) -> None:
        """Take host memory for copies if there is enough for all processes (collective)."""
        copy = HostCopy(state, engine.device)
        size_gib = max(engine.gather_objects(copy.num_bytes)) / 2**30
        self.background = all(engine.gather_objects(copy.fits))
        if self.background:
            copy.allocate()
            self._copy = copy
            logger.info(f"checkpoint.background: a save copies up to {size_gib:.2f} GiB a process to host memory")
        else:
            logger.warning(
                f"checkpoint.background: copies of {size_gib:.2f} GiB a process take too much of the host's available "
                "memory; training waits while a checkpoint is written"
            )


def _write(rank: int, folder: Path, state: list[Stretch], random: list[Stretch], training: str | None) -> Written:
    """Write the files, flushed. Without collectives: it runs in a thread.

    Args:
        training: content of training.json, on the main process.
    """
    started_s = time.perf_counter()
    stretches_of = {f"state-{rank:05d}.safetensors": state, f"random-{rank:05d}.safetensors": random}
    digests = {name: write_stretches(folder / name, of_file) for name, of_file in stretches_of.items()}
    if training is not None:
        digests[TRAINING] = write_flushed(folder / TRAINING, [training.encode()])
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": digest} for name, digest in digests.items()}
    return Written(files, time.perf_counter() - started_s)
