"""Reports a run: a progress bar or lines for people, `metrics.jsonl` and trackers for tools."""

import json
import logging
import math
import resource
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from tqdm import tqdm

from dst_dist.config import Optim, Recipe
from dst_dist.heads import HEAD_NAMES
from dst_dist.logs import SHOWN_BY_BAR, logger
from dst_dist.run_folder import RunFolder
from dst_dist.train.engine import Engine
from dst_dist.train.optim import rate_factor
from dst_dist.train.trackers import Trackers

EVALUATION_KEYS = ("dst_update/average_precision", "speaking/average_precision", "update/exact_match")
"""Metrics in the log line of an evaluation."""


def add_log_file(run: RunFolder) -> None:
    """Write the log to the run folder's `train.log` too."""
    handler = logging.FileHandler(run.log_file)
    handler.setFormatter(logging.getLogger().handlers[0].formatter)
    logging.getLogger().addHandler(handler)


def say_jump(run: RunFolder, step: int, num_steps: int, optim: Optim) -> None:
    """Log a warning if the learning rate of a run continued after `step` jumps, since its recipe had another curve."""
    rates = {line["step"]: line["learning_rate"] for line in run.metrics() if "learning_rate" in line}
    if step not in rates or step >= num_steps:
        return
    planned, following = (optim.learning_rate * rate_factor(done, num_steps, optim) for done in (step - 1, step))
    if not math.isclose(rates[step], planned, rel_tol=1e-6):
        logger.warning(
            f"the learning rate jumps: step {step} was trained with {rates[step]:.2e} and step {step + 1} has "
            f"{following:.2e}; by the recipe as it is, with {num_steps} steps, it would have been {planned:.2e}"
        )


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory this process has used so far: of the GPU, or on a CPU resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class TrainLog:
    """Writes one run's metrics and log lines, on the main process only."""

    def __init__(self, engine: Engine, run: RunFolder, recipe: Recipe, num_steps: int, start_step: int):
        self.every_steps, self.num_steps = recipe.log.every_steps, num_steps
        if engine.is_main:
            say_jump(run, start_step, num_steps, recipe.optim)
        self.trackers = Trackers(engine, run, recipe, start_step)
        self.file = open(run.metrics_file, "a", buffering=1, encoding="utf-8") if engine.is_main else None  # noqa: SIM115, see close
        self.checkpoint_values: dict[str, float] = defaultdict(float)
        self.begin_s = 0.0
        show_bar = engine.is_main and sys.stderr.isatty()
        self.bar = tqdm(total=num_steps, initial=start_step, unit="step", disable=not show_bar, dynamic_ncols=True)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Write one line of `metrics.jsonl`, flushed; `step` is the number of optimizer steps done."""
        if self.file is not None:
            self.file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        if split != "train" or self._is_due(step):
            self.trackers.log(step, split, values)

    def _is_due(self, step: int) -> bool:
        return step % self.every_steps == 0 or step in (1, self.num_steps)

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log an optimizer step: each to the file, one in `log.every_steps` to people and trackers."""
        values, self.checkpoint_values = {**values, **self.checkpoint_values}, defaultdict(float)
        self.write(step, "train", values)
        self.bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
        self.bar.update()
        if self._is_due(step):
            # A terminal shows the bar instead; train.log has the line in any case.
            logger.info(_train_line(step, self.num_steps, values), extra={SHOWN_BY_BAR: True})

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Log an evaluation of the validation split."""
        self.write(step, "val", values)
        metrics = ", ".join(f"{key} {values[key]:.3f}" for key in EVALUATION_KEYS if key in values)
        logger.info(f"step {step}/{self.num_steps} | val | {_losses(values)} | {metrics}")

    def checkpoint_begun(self, elapsed_s: float) -> None:
        """Record the time that training stood still for the beginning of a save."""
        self.begin_s = elapsed_s
        self.checkpoint_values["checkpoint_s"] += elapsed_s

    def checkpoint(self, path: Path, write_s: float, elapsed_s: float) -> None:
        """Log a complete save; the times of its end and of its writing are in the next step's line.

        Args:
            elapsed_s: time that training stood still for the end of the save.
        """
        self.checkpoint_values["checkpoint_s"] += elapsed_s
        self.checkpoint_values["checkpoint_write_s"] = write_s
        line = "saved %s: training stood still for %.1f s, writing took %.1f s"
        logger.info(line, path, self.begin_s + elapsed_s, write_s, extra={SHOWN_BY_BAR: True})

    def close(self) -> None:
        """End the bar and the file."""
        self.bar.close()
        if self.file is not None:
            self.file.close()


def _train_line(step: int, num_steps: int, values: Mapping[str, float]) -> str:
    classes = (f"{head} {values[f'num_{head}_positives']}+ {values[f'num_{head}_negatives']}-" for head in HEAD_NAMES)
    parts = [
        f"step {step}/{num_steps}",
        _losses(values),
        ", ".join(classes),
        f"learning_rate {values['learning_rate']:.2e}, grad_norm {values['grad_norm']:.3g}",
        f"{values['tokens_per_s']:,.0f} tokens/s, {values['frames_per_s']:,.1f} frames/s, "
        + (f"mfu {values['mfu']:.1%}, " if "mfu" in values else "")
        + f"{values['data_wait_share']:.0%} waiting for data",
        f"longest {values['max_seq_len']}, {values['peak_memory_gib']:.2f} GiB",
    ]
    return " | ".join(parts)


def _losses(values: Mapping[str, float]) -> str:
    terms = [f"{key[5:]} {value:.4f}" for key, value in values.items() if key.startswith("loss/")]
    return f"loss {values['loss']:.4f}: {', '.join(terms)}"
