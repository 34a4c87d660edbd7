"""`python -m tests.benchmarks.trainer_speed FOLDER [--steps 8]`: ours next to Hugging Face's and TRL's trainers.

All train the same model on the same samples of the small demo at 384 pixels: the same token ids, a frozen tower,
float32, 4 samples a step, one worker that decodes. A frame is 81 tokens, or 9 where the connector joins 81 patches.
Trainer and SFTTrainer group samples by length and pad them; Trainer makes every logit, SFTTrainer the supervised ones.
SFTTrainer is left out where trl and datasets are not installed. Prints tokens a second (padding not counted), and how
many times a trainer's ours are, with frames encoded every step and with kept features.
"""

import argparse
import importlib.util
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
    """The time of each optimizer step."""

    def __init__(self):
        self.steps_s: list[float] = []

    def on_step_begin(self, *_, **__) -> None:
        self.started_s = time.perf_counter()

    def on_step_end(self, *_, **__) -> None:
        self.steps_s.append(time.perf_counter() - self.started_s)


def tokens_a_step(words: list[str]) -> tuple[SampleDataset, float]:
    """Return the training samples and the mean number of tokens of a step."""
    setup = DataSetup(load_recipe(words))
    data = setup.datasets(setup.check())["train"]
    return data, BATCH * float(data.samples["tokens"].mean())


def stock_tokens_per_s(folder: Path, words: list[str], steps: int, trl: bool) -> float:
    """Return the tokens a second of Trainer, or of SFTTrainer. Steps of grouped lengths differ, so both are means."""
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
    return num_tokens / statistics.mean(times.steps_s[2:])


def our_tokens_per_s(folder: Path, words: list[str], name: str) -> float:
    """Return the tokens a second of our training."""
    assert train([*words, f"output_dir={folder / name}", "data.num_workers=1"]) == 0
    lines = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
    steps = [(line["num_tokens"], line["num_tokens"] / line["tokens_per_s"]) for line in lines][2:]
    num_tokens, taken_s = (sum(values) for values in zip(*steps, strict=True))
    return num_tokens / taken_s


def measure(folder: Path, tokens_per_frame: int, steps: int) -> None:
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
    live = our_tokens_per_s(folder, words, "live")
    cached = our_tokens_per_s(folder, [*words, f"data.feature_cache={folder}/features"], "cached")
    with_trl = importlib.util.find_spec("trl") and importlib.util.find_spec("datasets")
    stock = {
        name: stock_tokens_per_s(folder, words, steps, name == "SFTTrainer")
        for name in (["Trainer", "SFTTrainer"] if with_trl else ["Trainer"])
    }
    compared = [
        f"{name} {rate:.0f} (ours {live / rate:.2f} and {cached / rate:.2f} times)" for name, rate in stock.items()
    ]
    ours = f"{tokens_per_frame} tokens a frame: ours {live:.0f} tokens/s, with kept features {cached:.0f}"
    print("; ".join([ours, *compared]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for tokens_per_frame in SCALE_FACTORS:
        folder = options.folder / "trainer_speed"
        measure(folder, tokens_per_frame, options.steps)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
