"""Train rows of the GPU table one after the other in one process, and save nothing but their metrics.

    accelerate launch --config_file launch/zero2.yaml -m tests.gpu.rows '{"NAME": ["lora", "key=value"], ...}' \
        <words of all rows>... output_dir=FOLDER

Each row has `FOLDER/NAME/metrics.jsonl`, and a line in `FOLDER/rows.jsonl` with its seconds and its fault.
"""

import gc
import json
import logging
import sys
import time
from pathlib import Path

import torch
from accelerate.state import AcceleratorState

from dst_dist.exit import leave
from dst_dist.logs import set_up_logging
from dst_dist.recipes.loading import load_recipe, output_dir_of
from dst_dist.setup import DataSetup
from dst_dist.train.held_folder import HeldFolder
from dst_dist.train.loop import Trainer
from dst_dist.train.stop import StopRequest


class UnsavedTrainer(Trainer):
    """A run that ends with its last step: a full 2.2B would write 30 GB that nothing here reads."""

    def save(self, is_best: bool) -> None:
        pass

    def finish(self) -> None:
        pass


def train_row(words: list[str]) -> None:
    """Train one row to its end, and free what it held on the device."""
    run = HeldFolder(Path(output_dir_of(words)))
    run.path.mkdir(parents=True)
    setup = DataSetup(load_recipe(words))
    trainer = UnsavedTrainer(run, setup, setup.check(), StopRequest(run, watches_file=False), [])
    trainer.train()
    trainer.log.close()


def forget_row() -> None:
    """Free what the last row left on the device; the process group stays for the next."""
    AcceleratorState._reset_state()
    torch._dynamo.reset()
    for handler in logging.getLogger().handlers[1:]:
        logging.getLogger().removeHandler(handler)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def main(rows: dict[str, list[str]], words: list[str]) -> int:
    """Train all rows; return 1 if one of them failed."""
    folder = Path(output_dir_of(words))
    set_up_logging(is_main=True)
    has_failed = False
    for name, own_words in rows.items():
        started_s, fault = time.perf_counter(), None
        try:
            train_row([*own_words, *words, f"output_dir={folder / name}"])
        except Exception as error:
            logging.getLogger().exception("row %s", name)
            fault = " ".join(f"{type(error).__name__}: {error}".split())
        has_failed |= fault is not None
        forget_row()
        line = {"name": name, "seconds": time.perf_counter() - started_s, "fault": fault}
        with open(folder / "rows.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
    return int(has_failed)


if __name__ == "__main__":
    leave(main(json.loads(sys.argv[1]), sys.argv[2:]))
