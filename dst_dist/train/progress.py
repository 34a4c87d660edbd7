"""The progress of a run: a bar or log lines for people, `metrics.jsonl` and trackers for tools."""

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

from dst_dist.logs import SHOWN_BY_BAR, logger
from dst_dist.run_folder import RunFolder
from dst_dist.train.engine import Engine


def add_log_file(run: RunFolder) -> None:
    """Repeat the log in the run folder's `train.log`."""
    handler = logging.FileHandler(run.log_file)
    handler.setFormatter(logging.getLogger().handlers[0].formatter)
    logging.getLogger().addHandler(handler)


def peak_memory_gib(device: torch.device) -> float:
    """Return the peak memory of this process: allocated on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@dataclass
class Stopwatch:
    """Measures the seconds of a step, and those spent waiting for data."""

    started_s: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0

    def timed(self, iterator):
        """Return the next item of an iterator, and count the wait."""
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
        self.file = open(run.metrics_file, "a", buffering=1) if engine.is_main else None  # noqa: SIM115, see close
        engine.accelerator.init_trackers("dst_dist")
        self.checkpoint_s: float | None = None
        show_bar = engine.is_main and sys.stderr.isatty()
        self.bar = tqdm(total=num_steps, initial=start_step, unit="step", disable=not show_bar, dynamic_ncols=True)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Write one line of `metrics.jsonl`, flushed; `step` is the number of optimizer steps done."""
        if self.file is not None:
            self.file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        if split != "train" or self._is_due(step):
            prefix = "" if split == "train" else f"{split}/"
            self.engine.accelerator.log({f"{prefix}{key}": value for key, value in values.items()}, step=step)

    def _is_due(self, step: int) -> bool:
        return step % self.every_steps == 0 or step in (1, self.num_steps)

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log an optimizer step: always to the file, every `log.every_steps` to people."""
        if self.checkpoint_s is not None:
            values, self.checkpoint_s = {**values, "checkpoint_s": self.checkpoint_s}, None
        self.write(step, "train", values)
        self.bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
        self.bar.update()
        if self._is_due(step):
            # A terminal shows the bar instead; the file has the line in any case.
            logger.info(_train_line(step, self.num_steps, values), extra={SHOWN_BY_BAR: True})

    def evaluation(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Log an evaluation."""
        self.write(step, split, values)
        logger.info(f"step {step}/{self.num_steps} | {split} | {_loss(values)} | {_pairs(values, EVALUATION_KEYS)}")

    def checkpoint(self, path: Path, elapsed_s: float) -> None:
        """Log a save; how long training stood still for it is in the next step's line."""
        self.checkpoint_s = elapsed_s
        logger.info("saved %s in %.1f s", path, elapsed_s, extra={SHOWN_BY_BAR: True})

    def close(self) -> None:
        self.bar.close()
        if self.file is not None:
            self.file.close()


EVALUATION_KEYS = ("dst_update/average_precision", "speaking/average_precision", "update/exact_match")


def _pairs(values: Mapping[str, float], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {values[key]:.3f}" for key in keys if key in values)


def _loss(values: Mapping[str, float]) -> str:
    terms = ", ".join(
        f"{key.removeprefix('loss/')} {value:.4f}" for key, value in values.items() if key.startswith("loss/")
    )
    return f"loss {values['loss']:.4f}: {terms}"


def _train_line(step: int, num_steps: int, values: Mapping[str, float]) -> str:
    heads = ", ".join(
        f"{head} {values[f'num_{head}_positives']}+ {values[f'num_{head}_negatives']}-"
        for head in ("dst_update", "speaking")
    )
    parts = [
        f"step {step}/{num_steps}",
        _loss(values),
        heads,
        f"learning_rate {values['learning_rate']:.2e}, grad_norm {values['grad_norm']:.3g}",
        f"{values['tokens_per_s']:,.0f} tokens/s, {values['frames_per_s']:,.1f} frames/s, "
        f"{values['data_wait_share']:.0%} waiting for data",
        f"longest {values['max_seq_len']}, {values['peak_memory_gib']:.2f} GiB",
    ]
    return " | ".join(parts)
