"""Speed of a training step on one card, next to what could be chosen instead, all in one process.

    bash tests/gpu/speed.sh           the 2.2B with random weights, no network
    bash tests/gpu/speed.sh --tiny    the same rows with a tiny model on the CPU, to try the script itself

Prints tokens a second, memory at the peak, and each row's ratio to the row that it is compared with.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import transformers
from torch import nn
from transformers import SmolVLMForConditionalGeneration

from dst_dist.config import Recipe
from dst_dist.model.adapters import add_adapter
from dst_dist.model.compiling import compile_layers, why_not_compiled
from dst_dist.model.lora import lora_config
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import make_trainable, parameter_groups, unwrap
from dst_dist.train.optim import build_optimizer
from tests.gpu.make_models import SHAPES
from tests.model.tiny import count_terms, inputs

WARM_UP, MEASURED = 3, 5


@dataclass(frozen=True)
class Row:
    """A step of one kind. `frames` are in each of the samples, `compared_with` is the name of an earlier row."""

    name: str
    mode: str
    compared_with: str | None = None
    checkpointing: bool = False
    compiled: bool = True
    lengths: tuple[int, ...] = (4096, 4096)
    frames: int = 1
    tokens_per_frame: int = 1
    cached: bool = True
    stock: bool = False


def rows() -> Iterator[Row]:
    for mode in ("lora", "full"):
        plain = f"{mode}, plain layers"
        yield Row(plain, mode, compiled=False)
        yield Row(f"{mode}, compiled layers", mode, plain)
        yield Row(f"{mode}, compiled layers, checkpointing", mode, plain, checkpointing=True)
        yield Row(f"{mode}, stock in bf16, padded, every logit", mode, plain, stock=True)
    for tokens_per_frame, frames in ((1, 300), (9, 100)):
        live = f"lora, K = {tokens_per_frame}, {frames} frames in 2,048 tokens, encoded in the step"
        sizes = {"lengths": (2048,), "frames": frames, "tokens_per_frame": tokens_per_frame}
        yield Row(live, "lora", cached=False, **sizes)
        yield Row(live.replace("encoded in the step", "features kept"), "lora", live, **sizes)


def recipe_of(row: Row) -> Recipe:
    return Recipe.model_validate(
        {
            "finetune": {"mode": row.mode},
            "train": {"gradient_checkpointing": row.checkpointing},
            "model": {"tokens_per_frame": row.tokens_per_frame},
        }
    )


def batch_of(model: SmolVLMForDST, row: Row, device: torch.device) -> SimpleNamespace:
    """Return samples of random ids with their frames in the middle; the last 15 % of each is supervised."""
    generator = torch.Generator().manual_seed(0)
    size, image = model.config.vision_config.image_size, model.config.image_token_id
    ids, lm, decisions, start = [], [], [], 0
    for length in row.lengths:
        text = torch.randint(300, model.config.text_config.vocab_size - 200, (length,), generator=generator)
        num_image = row.frames * row.tokens_per_frame
        first = (length - num_image) // 2
        text[first : first + num_image] = image
        ids.append(text)
        lm.append(start + torch.arange(length - max(2, int(0.15 * length)), length - 1))
        decisions.append(start + first - 1 + row.tokens_per_frame * torch.arange(1, row.frames + 1))
        start += length
    ids, lm, decisions = torch.cat(ids), torch.cat(lm), torch.cat(decisions)
    number = row.frames * len(row.lengths)
    frames = torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8, generator=generator).to(device)
    if row.cached and not row.stock:
        chunks = frames.split(model.vision_batch_size)
        frames = torch.cat([model.frame_features(chunk, behind_connector=False) for chunk in chunks])
    labels = (torch.arange(len(decisions)) % 10 == 0).long().to(device)
    return SimpleNamespace(
        input_ids=ids.to(device),
        frames=frames,
        segment_lengths=list(row.lengths),
        lm_positions=lm.to(device),
        lm_targets=ids[lm + 1].to(device),
        lm_is_dst=(torch.arange(len(lm)) % 2 == 0).to(device),
        decision_positions=decisions.to(device),
        decisions={"dst_update": labels, "speaking": labels.flip(0)},
    )


def our_step(row: Row, model_name: str, device: torch.device) -> Callable[[], None]:
    """Return a function that runs one step of our model."""
    recipe, config = recipe_of(row), SHAPES[model_name].config()
    config.tokens_per_frame = row.tokens_per_frame
    torch.manual_seed(0)
    with device:
        model: nn.Module = SmolVLMForDST(config).to(torch.bfloat16)
    if row.mode == "lora":
        model = add_adapter(model, lora_config(recipe, model)).to(device)
    make_trainable(model, recipe)
    if row.compiled and why_not_compiled("auto") is None:
        compile_layers(unwrap(model))
    optimizer = build_optimizer(parameter_groups(model), recipe.optim, fused=device.type == "cuda")
    batch = batch_of(unwrap(model), row, device)
    counts = count_terms(batch)

    def step() -> None:
        output = model(**inputs(batch))
        compute_loss(output, batch, counts, recipe.loss, "classes")[0].backward()
        update(optimizer)

    return step


def stock_step(row: Row, model_name: str, device: torch.device) -> Callable[[], None]:
    """Return a function that runs one step as public recipes do: padded rows, every logit, full in pure bf16.

    Frames are left out, as the features that our rows read have no cost either.
    """
    config = SHAPES[model_name].config()
    torch.manual_seed(0)
    with device:
        model: nn.Module = SmolVLMForConditionalGeneration(config).to(torch.bfloat16)
    model.requires_grad_(row.mode == "full")
    model.model.vision_model.requires_grad_(False)
    if row.mode == "lora":
        from peft import LoraConfig, get_peft_model

        names = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
        adapter = LoraConfig(r=64, lora_alpha=128, target_modules=rf".*text_model.*\.({names})")
        model = get_peft_model(model, adapter).to(device)
    model.train()
    length = max(row.lengths)
    ids = torch.randint(300, config.text_config.vocab_size - 200, (len(row.lengths), length)).to(device)
    labels = torch.full_like(ids, -100)
    first = length - int(0.15 * length)
    labels[:, first:] = ids[:, first:]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=device.type == "cuda" or None)
    autocast = torch.autocast(device.type, torch.bfloat16) if row.mode == "lora" else nullcontext()

    def step() -> None:
        with autocast:
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, use_cache=False).loss
        loss.backward()
        update(optimizer)

    return step


def update(optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(step: Callable[[], None], device: torch.device, repeats: int) -> tuple[float, float]:
    """Return the median time of a step in seconds, and the memory at its peak in GiB (0 on a CPU)."""
    for _ in range(WARM_UP if repeats > 1 else 1):
        step()
    times, on_gpu = [], device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats):
        _wait(on_gpu)
        started_s = time.perf_counter()
        step()
        _wait(on_gpu)
        times.append(time.perf_counter() - started_s)
    return statistics.median(times), torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0


def _wait(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.synchronize()


def small(row: Row) -> Row:
    """Return a row for the tiny model: it has K = 1 and short samples."""
    lengths = tuple(length // 32 for length in row.lengths)
    return Row(**vars(row) | {"lengths": lengths, "frames": min(row.frames, 8), "tokens_per_frame": 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU")
    options = parser.parse_args()
    device = torch.device("cpu" if options.tiny else "cuda")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    print(f"{'row':70} {'ms':>8} {'tokens/s':>9} {'GiB':>6} {'ratio':>6}", flush=True)
    speeds: dict[str, float] = {}
    for row in rows():
        row = small(row) if options.tiny else row
        make = stock_step if row.stock else our_step
        step = make(row, "tiny" if options.tiny else "2.2B", device)
        step_s, peak_gib = measure(step, device, 1 if options.tiny else MEASURED)
        speeds[row.name] = sum(row.lengths) / step_s
        ratio = f"{speeds[row.name] / speeds[row.compared_with]:.2f}" if row.compared_with else ""
        print(f"{row.name:70} {step_s * 1e3:8.1f} {speeds[row.name]:9.0f} {peak_gib:6.1f} {ratio:>6}", flush=True)
        del step
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
