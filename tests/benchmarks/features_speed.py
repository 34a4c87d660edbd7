"""`python -m tests.benchmarks.features_speed FOLDER [--steps 6]`: frames encoded once or every step.

Trains the small demo twice through the product's own loop, at 384 pixels, with a model whose tower costs about 100 text
tokens a frame, as the 2.2B's does. Prints the ratio of the median steps, the one that counting operations predicts, and
their quotient, which should be 0.8 at least.
"""

import argparse
import json
import logging
import shutil
import statistics
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.data.batching import Draw, micro_batches
from dst_dist.data.dataset import SampleDataset
from dst_dist.demo.make import make_demo
from dst_dist.features import use_features
from dst_dist.model.loading import load_model
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import unwrap
from dst_dist.processes import Processes
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.conftest import SMALL
from tests.train.in_process import train

VISION = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4}


def make_model(demo: Path, folder: Path, scale_factor: int = 3) -> None:
    """Write a model with the demo's tokenizer, the 2.2B's grid of patches and both halves small in the same measure."""
    shutil.copytree(demo / "model", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    values = json.loads((folder / "config.json").read_text())
    values["vision_config"] |= VISION | {"image_size": 384, "patch_size": 14}
    values["text_config"] |= TEXT | {"num_key_value_heads": 4, "head_dim": 48}
    torch.manual_seed(0)
    values |= {"scale_factor": scale_factor, "tokens_per_frame": 1}
    SmolVLMForDST(SmolVLMConfig(**values)).save_pretrained(folder)


def step_s(folder: Path) -> float:
    """Return the median time of a step after the first two, from a run's metrics."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return statistics.median([line["num_tokens"] / line["tokens_per_s"] for line in lines][2:])


def operations(recipe: Recipe, data: SampleDataset, model: SmolVLMForDST) -> int:
    """Return the operations of a micro-batch's forward and backward, as torch counts them."""
    limits = DataSetup(recipe, splits=()).limits
    (spec, *_) = micro_batches(0, 0, [Draw(index, 0) for index in range(4)], data.samples, limits, 0, 1)
    batch = data[spec]
    # Plain products, since the counter does not know the CPU's attention kernel.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = model(
            batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions
        )
        counts = data.counts(spec.draws, 0)
        compute_loss(output, batch, counts, recipe.loss, "classes")[0].backward()
    return counter.get_total_flops()


def predicted(words: list[str]) -> float:
    """Return how much faster a step should be by its operations alone."""
    recipe = load_recipe(words)
    setup = DataSetup(recipe)
    datasets = setup.datasets(setup.check())
    model = unwrap(load_model(recipe))
    live = operations(recipe, datasets["train"], model)
    use_features(Processes(0, 1, torch.device("cpu")), recipe, model, datasets)
    return live / operations(recipe, datasets["train"], model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    folder = options.folder / "features_speed"
    make_demo(folder / "demo", sizes=SMALL, workers=1)
    make_model(folder / "demo", folder / "model")
    words = [
        "demo",
        f"data.root={folder}/demo",
        f"model.name_or_path={folder}/model",
        "data.val=[]",
        "finetune.train.vision=false",
        f"train.max_steps={options.steps}",
        "train.global_batch_size=4",
        "log.report_to=[]",
    ]
    cache = f"data.feature_cache={folder}/features"
    for name, more in (("live", []), ("cached", [cache])):
        assert train([*words, *more, f"output_dir={folder}/{name}"]) == 0
    live_s, cached_s, ratio = step_s(folder / "live"), step_s(folder / "cached"), predicted([*words, cache])
    shutil.rmtree(folder)
    found = live_s / cached_s
    print(
        f"a step with frames encoded {live_s:.2f} s, with features {cached_s:.2f} s: {found:.1f} times as fast; "
        f"by operations {ratio:.1f} times, reached {found / ratio:.2f} of it"
    )


if __name__ == "__main__":
    main()
