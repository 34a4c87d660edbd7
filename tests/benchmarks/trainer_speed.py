"""`python -m tests.benchmarks.trainer_speed FOLDER [--steps 8]`: our training next to Hugging Face's Trainer.

Both train the same model on the same samples of the small demo at 384 pixels: the same token ids, all 81 tokens of a
frame, a frozen tower, float32, 4 samples a step. The Trainer groups samples by length, pads them, makes every logit.
Prints tokens a second (padding not counted) and the ratios, live and with kept features.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path

import torch
from transformers import SmolVLMForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments

from dst_dist.data.batching import Draw
from dst_dist.data.dataset import SampleDataset
from dst_dist.demo.make import make_demo
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.benchmarks.features_speed import make_model, step_s
from tests.conftest import SMALL
from tests.train.in_process import train

BATCH = 4


class Samples(torch.utils.data.Dataset):
    """The samples as the Trainer takes them: ids, labels, and pixels of their frames."""

    def __init__(self, data: SampleDataset):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict:
        sample = self.data.sample(Draw(index, 0), 0)
        frames = self.data.reader.empty(len(sample.frames))
        clip = self.data.clips.index[int(self.data.samples[index]["clip"])]
        self.data.reader.read(clip.frames_path, sample.frames.tolist(), frames)
        ids, labels = (torch.from_numpy(values).long() for values in (sample.input_ids, sample.labels))
        return {"input_ids": ids, "labels": labels, "pixels": frames.float() / 127.5 - 1, "length": len(ids)}


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


def stock_tokens_per_s(folder: Path, words: list[str], steps: int) -> float:
    """Return the tokens a second of the Trainer. Steps of grouped lengths differ, so both are means."""
    setup = DataSetup(load_recipe(words))
    data = setup.datasets(setup.check())["train"]
    model = SmolVLMForConditionalGeneration.from_pretrained(folder / "model")
    model.model.vision_model.requires_grad_(False)
    settings = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        remove_unused_columns=False,
        learning_rate=1e-4,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    times = Times()
    trainer = Trainer(model, settings, data_collator=padded, train_dataset=Samples(data), callbacks=[times])
    trainer.train()
    return BATCH * float(data.samples["tokens"].mean()) / statistics.mean(times.steps_s[2:])


def our_tokens_per_s(folder: Path, words: list[str], name: str) -> float:
    """Return the tokens a second of our training."""
    run = folder / name
    assert train([*words, f"output_dir={run}"]) == 0
    setup = DataSetup(load_recipe(words))
    data = setup.datasets(setup.check())["train"]
    return BATCH * float(data.samples["tokens"].mean()) / step_s(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    folder = options.folder / "trainer_speed"
    make_demo(folder / "demo", sizes=SMALL, workers=1)
    make_model(folder / "demo", folder / "model")
    words = [
        "demo",
        f"data.root={folder}/demo",
        f"model.name_or_path={folder}/model",
        "model.tokens_per_frame=81",
        "data.val=[]",
        "finetune.train.vision=false",
        f"train.max_steps={options.steps}",
        f"train.global_batch_size={BATCH}",
        "log.report_to=[]",
    ]
    live = our_tokens_per_s(folder, words, "live")
    cached = our_tokens_per_s(folder, [*words, f"data.feature_cache={folder}/features"], "cached")
    stock = stock_tokens_per_s(folder, words, options.steps)
    shutil.rmtree(folder)
    print(
        f"Trainer {stock:.0f} tokens/s; ours with frames encoded every step {live:.0f} ({live / stock:.2f} times), "
        f"with features {cached:.0f} ({cached / stock:.2f} times)"
    )


if __name__ == "__main__":
    main()
