"""What a run says of itself: a bar or lines for people, `metrics.jsonl` and trackers for tools."""

import json
import logging
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from dst_dist.logs import logger
from dst_dist.train.engine import Engine
from dst_dist.train.run_folder import RunFolder

def add_log_file(run: RunFolder) -> None:
    """Repeat the log in the run folder's `train.log`."""
    handler = logging.FileHandler(run.log_file)
    handler.setFormatter(logging.getLogger().handlers[0].formatter)
    logging.getLogger().addHandler(handler)


def peak_memory_gib(device: torch.device) -> float:
    """The most this process has used: of the GPU's memory, or on a CPU resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@dataclass
class Stopwatch:
    """Time of a step, and the part of it spent waiting for data, in seconds."""

    started_s: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0

    def timed(self, iterator):
        """The next item of an iterator, its wait counted."""
        before = time.perf_counter()
        item = next(iterator)
        self.waited_s += time.perf_counter() - before
        return item

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started_s


class TrainLog:
    """Writes one run's metrics; only the main process's has effects."""

    def __init__(self, engine: Engine, run: RunFolder, every_steps: int, num_steps: int, start_step: int):
        self.engine, self.every_steps, self.num_steps = engine, every_steps, num_steps
        self.file = open(run.metrics_file, "a", buffering=1) if engine.is_main else None
        engine.accelerator.init_trackers("dst_dist")
        self.on_terminal = engine.is_main and sys.stderr.isatty()
        self.checkpoint_s: float | None = None
        self.bar = tqdm(total=num_steps, initial=start_step, unit="step", disable=not self.on_terminal, dynamic_ncols=True)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`, flushed; `step` is the number of optimizer steps done."""
        if self.file is not None:
            self.file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        if split != "train" or self._is_due(step):
            prefix = "" if split == "train" else f"{split}/"
            self.engine.accelerator.log({f"{prefix}{key}": value for key, value in values.items()}, step=step)

    def _is_due(self, step: int) -> bool:
        return step % self.every_steps == 0 or step in (1, self.num_steps)

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log an optimizer step: always to the file, now and then to people."""
        if self.checkpoint_s is not None:
            values, self.checkpoint_s = {**values, "checkpoint_s": self.checkpoint_s}, None
        self.write(step, "train", values)
        self.bar.update()
        self.bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
        if self._is_due(step):
            self._say(_train_line(step, self.num_steps, values))

    def evaluation(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Log an evaluation."""
        self.write(step, split, values)
        self._say(f"step {step} {split}: " + _pairs(values, EVALUATION_KEYS))

    def checkpoint(self, path: Path, elapsed_s: float) -> None:
        """Log a save; how long training stood still for it is in the next step's line."""
        self.checkpoint_s = elapsed_s
        self._say(f"saved {path} in {elapsed_s:.1f} s")

    def _say(self, line: str) -> None:
        """A line in the log; on a terminal only the file gets it, the bar is what people watch."""
        handlers = logging.getLogger().handlers
        if self.on_terminal:
            for handler in handlers[1:]:
                handler.emit(logger.makeRecord(logger.name, logging.INFO, "", 0, line, (), None))
            self.bar.refresh()
        else:
            logger.info(line)

    def close(self) -> None:
        self.bar.close()
        if self.file is not None:
            self.file.close()


EVALUATION_KEYS = (
    "loss", "loss/lm", "dst_update/average_precision", "speaking/average_precision", "update/exact_match",
)  # fmt: skip
TRAIN_KEYS = (
    "loss", "loss/lm", "loss/dst_gen", "loss/dst_update", "loss/speaking", "learning_rate", "grad_norm",
    "tokens_per_s", "frames_per_s", "data_wait_share", "max_seq_len", "peak_memory_gib",
)  # fmt: skip


def _pairs(values: Mapping[str, float], keys: Sequence[str]) -> str:
    return " ".join(f"{key.removeprefix('loss/')} {values[key]:.4g}" for key in keys if key in values)


def _train_line(step: int, num_steps: int, values: Mapping[str, float]) -> str:
    heads = " ".join(
        f"{head} {values[f'num_{head}_positives']:.0f}+/{values[f'num_{head}_negatives']:.0f}-"
        for head in ("dst_update", "speaking")
    )
    return f"step {step}/{num_steps} {_pairs(values, TRAIN_KEYS)} {heads}"
