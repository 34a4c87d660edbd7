"""`python -m tests.benchmarks.trainer_speed FOLDER [--rounds 3]`: ours next to Hugging Face's and TRL's trainers.

All train the same model on the same samples of the small demo at 384 pixels: the same token ids, a frozen tower,
float32, 4 samples a step, one worker that decodes. A frame is 81 tokens, or 9 where the connector joins 81 patches.
Trainer and SFTTrainer group samples by length and pad them; Trainer makes every logit, SFTTrainer the supervised ones.
SFTTrainer is left out where trl and datasets are not installed. The trainings take turns, and each step counts but a
training's first two. Prints the median tokens a second (padding not counted), and how many times a trainer's ours are,
with frames encoded every step and with kept features.
"""

import argparse
import importlib.util
import itertools
import json
import logging
import shutil
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from dst_dist.data.batching import Draw
from dst_dist.data.dataset import SampleDataset
from dst_dist.demo.make import make_demo
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.benchmarks.features_speed import make_model
from tests.conftest import SMALL
from tests.train.in_process import train

BATCH = 4
SCALE_FACTORS = {81: 3, 9: 9}
SETTINGS = {
    "per_device_train_batch_size": BATCH,
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "length",
    "remove_unused_columns": False,
    "dataloader_num_workers": 1,
    "learning_rate": 1e-4,
    "report_to": [],
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}


def sample_for_stock(data: SampleDataset, index: int) -> dict[str, torch.Tensor]:
    """Return a sample as stock models take it: ids, labels, and pixels of its frames."""
    sample = data.sample(Draw(index, 0), 0)
    frames = data.reader.empty(len(sample.frames))
    clip = data.clips.index[int(data.samples[index]["clip"])]
    data.reader.read(clip.frames_path, sample.frames.tolist(), frames)
    ids, labels = (torch.from_numpy(values).long() for values in (sample.input_ids, sample.labels))
    return {"input_ids": ids, "labels": labels, "pixels": frames.float() / 127.5 - 1}


def padded(samples: list[dict]) -> dict[str, torch.Tensor]:
    """Return a batch of samples padded to the longest, with blank frames where one has fewer."""
    pad = torch.nn.utils.rnn.pad_sequence
    ids = [sample["input_ids"] for sample in samples]
    return {
        "input_ids": pad(ids, batch_first=True, padding_value=2),
        "attention_mask": pad([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad([sample["labels"] for sample in samples], batch_first=True, padding_value=-100),
        "pixel_values": pad([sample["pixels"] for sample in samples], batch_first=True),
    }


class Times(TrainerCallback):
    """The times at which optimizer steps end; from one to the next is a step with its wait for data."""

    def __init__(self):
        self.ends_s: list[float] = []

    def on_step_end(self, *_, **__) -> None:
        self.ends_s.append(time.perf_counter())


def tokens_a_step(words: list[str]) -> tuple[SampleDataset, float]:
    """Return the training samples and the mean number of tokens of a step."""
    setup = DataSetup(load_recipe(words))
    data = setup.datasets(setup.check())["train"]
    return data, BATCH * float(data.samples["tokens"].mean())


def stock_rates(folder: Path, words: list[str], steps: int, trl: bool) -> list[float]:
    """Return the tokens a second of each step of Trainer, or of SFTTrainer, but the first two."""
    data, num_tokens = tokens_a_step(words)
    lengths = data.samples["tokens"].tolist()
    model = SmolVLMForConditionalGeneration.from_pretrained(folder / "model")
    model.model.vision_model.requires_grad_(False)
    settings = SETTINGS | {"max_steps": steps, "output_dir": str(folder / "trainer")}
    times = Times()

    def collator(drawn: list[dict]) -> dict[str, torch.Tensor]:
        return padded([sample_for_stock(data, row["index"]) for row in drawn])

    if trl:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        trainer = SFTTrainer(
            model,
            SFTConfig(**settings, dataset_kwargs={"skip_prepare_dataset": True}),
            collator,
            Dataset.from_dict({"index": range(len(lengths)), "length": lengths}),
            processing_class=AutoTokenizer.from_pretrained(folder / "model"),
            callbacks=[times],
        )
    else:
        # The Trainer takes the length of a sample from its ids.
        rows = [{"index": index, "input_ids": range(length)} for index, length in enumerate(lengths)]
        trainer = Trainer(model, TrainingArguments(**settings), collator, rows, callbacks=[times])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [num_tokens / (end_s - start_s) for start_s, end_s in itertools.pairwise(times.ends_s[1:])]


def our_rates(folder: Path, words: list[str], name: str) -> list[float]:
    """Return the tokens a second of each step of our training but the first two."""
    shutil.rmtree(folder / name, ignore_errors=True)
    assert train([*words, f"output_dir={folder / name}", "data.num_workers=1"]) == 0
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["tokens_per_s"] for line in lines][2:]


def measure(folder: Path, tokens_per_frame: int, rounds: int, steps: int) -> None:
    """Print one line: tokens a second of each training with so many tokens a frame."""
    make_demo(folder / "demo", sizes=SMALL, workers=1)
    make_model(folder / "demo", folder / "model", SCALE_FACTORS[tokens_per_frame])
    words = [
        "demo",
        f"data.root={folder}/demo",
        f"model.name_or_path={folder}/model",
        f"model.tokens_per_frame={tokens_per_frame}",
        "data.val=[]",
        "finetune.train.vision=false",
        f"train.max_steps={steps}",
        f"train.global_batch_size={BATCH}",
        "log.report_to=[]",
    ]
    cached = [*words, f"data.feature_cache={folder}/features"]
    ways = {
        "live": lambda: our_rates(folder, words, "live"),
        "cached": lambda: our_rates(folder, cached, "cached"),
        "Trainer": lambda: stock_rates(folder, words, steps, trl=False),
    }
    if importlib.util.find_spec("trl") and importlib.util.find_spec("datasets"):
        ways["SFTTrainer"] = lambda: stock_rates(folder, words, steps, trl=True)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name] += way()
    found = {name: statistics.median(of_way) for name, of_way in rates.items()}
    ours = [found.pop(name) for name in ("live", "cached")]
    compared = [
        f"{name} {rate:.0f} (ours {ours[0] / rate:.2f} and {ours[1] / rate:.2f} times)" for name, rate in found.items()
    ]
    said = f"{tokens_per_frame} tokens a frame: ours {ours[0]:.0f} tokens/s, with kept features {ours[1]:.0f}"
    print("; ".join([said, *compared]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for tokens_per_frame in SCALE_FACTORS:
        folder = options.folder / "trainer_speed"
        measure(folder, tokens_per_frame, options.rounds, options.steps)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
