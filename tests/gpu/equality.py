"""Compare on a device, in float32 and bf16: whole grid and stock, packed and alone, compiled layers and plain."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_map
from transformers import SmolVLMForConditionalGeneration

from dst_dist.config import Loss
from dst_dist.model.compiling import compile_layers, why_not_compiled
from dst_dist.model.frame_pooling import frame_grid
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from tests.model.tiny import IMAGE_TOKEN, count_terms, inputs, pack, sample, with_random_heads

LIMITS = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
FRAMES = (3, 2)


class Check(NamedTuple):
    """One comparison: the largest difference, as a share of the largest value, and its limit."""

    model: str
    name: str
    difference: float
    limit: float

    @property
    def is_good(self) -> bool:
        return self.difference <= self.limit


@torch.no_grad()
def _logits(model: SmolVLMForDST, batch: SimpleNamespace) -> torch.Tensor:
    """Return the logits of all positions, [T, vocabulary], float32."""
    every = torch.arange(len(batch.input_ids), device=batch.input_ids.device)
    return model(**inputs(batch) | {"lm_positions": every}).lm_logits.float()


def check_model(name: str, folder: Path, device: str) -> list[Check]:
    """Return all comparisons of one model folder. Switches TF32 off for the process, since it is not float32."""
    torch.backends.cudnn.allow_tf32 = False
    model = with_random_heads(SmolVLMForDST.from_pretrained(folder, dtype=torch.float32)).to(device).eval()
    samples = [_sample(model.config, frames, seed, device) for seed, frames in enumerate(FRAMES)]
    checks = [Check(name, "tower position ids, number wrong", _wrong_positions(model, samples[0]), 0.0)]
    for dtype, limit in LIMITS.items():
        model.compute_dtype = None if dtype == torch.float32 else dtype
        label = str(dtype).removeprefix("torch.")
        checks.append(Check(name, f"packed = alone, logits, {label}", _packing_difference(model, samples), limit))
        checks.append(Check(name, f"packed = alone, gradients, {label}", _gradient_difference(model, samples), limit))
        if device == "cuda" and why_not_compiled("auto") is None:
            difference = _compiled_difference(model, samples)
            checks.append(Check(name, f"compiled layers = plain, gradients, {label}", difference, limit))
    ours = {dtype: _alone(model, samples, dtype) for dtype in LIMITS}
    del model
    stock = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    for dtype, limit in LIMITS.items():
        pairs = zip(ours[dtype], samples, strict=True)
        difference = max(_difference(logits, _stock_logits(stock, item, dtype)) for logits, item in pairs)
        checks.append(Check(name, f"whole grid = stock, {str(dtype).removeprefix('torch.')}", difference, limit))
    return checks


def _alone(model: SmolVLMForDST, samples: list[dict], dtype: torch.dtype) -> list[torch.Tensor]:
    model.compute_dtype = None if dtype == torch.float32 else dtype
    return [_logits(model, pack([item])) for item in samples]


def _sample(config, frames: int, seed: int, device: str) -> dict:
    item = sample(config, frames, seed)
    item["input_ids"][item["input_ids"] == IMAGE_TOKEN] = config.image_token_id
    assert config.tokens_per_frame == frame_grid(config) ** 2, "the whole grid is compared"
    return tree_map(lambda values: values.to(device), item)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@torch.no_grad()
def _stock_logits(stock: SmolVLMForConditionalGeneration, item: dict, dtype: torch.dtype) -> torch.Tensor:
    pixels = (item["frames"].float() / 255 - 0.5) / 0.5
    device = pixels.device.type
    precision = nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)
    with precision:
        return stock(input_ids=item["input_ids"][None], pixel_values=pixels[None]).logits[0].float()


def _packing_difference(model: SmolVLMForDST, samples: list[dict]) -> float:
    alone = torch.cat([_logits(model, pack([item])) for item in samples])
    return _difference(_logits(model, pack(samples)), alone)


def _gradient_difference(model: SmolVLMForDST, samples: list[dict]) -> float:
    """Return the largest difference of a gradient, as a share of the largest gradient."""
    counts = count_terms(pack(samples))
    alone = _gradients(model, [pack([item]) for item in samples], counts)
    packed = _gradients(model, [pack(samples)], counts)
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    return max(float((packed[name] - gradient).abs().max()) for name, gradient in alone.items()) / largest


def _compiled_difference(model: SmolVLMForDST, samples: list[dict]) -> float:
    """Return the largest difference of a gradient, as a share of the largest gradient."""
    batch = pack(samples)
    plain = _gradients(model, [batch], count_terms(batch))
    compile_layers(model)
    compiled = _gradients(model.train(), [batch], count_terms(batch))
    model.eval()
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    return max(float((compiled[name] - gradient).abs().max()) for name, gradient in plain.items()) / largest


def _gradients(model: SmolVLMForDST, batches: list[SimpleNamespace], counts: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for batch in batches:
        compute_loss(model(**inputs(batch)), batch, counts, Loss(), "classes")[0].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return gradients


@torch.no_grad()
def _wrong_positions(model: SmolVLMForDST, item: dict) -> float:
    """Return how many position ids of the tower are wrong: it computes them in floating point, which devices round."""
    seen: list[torch.Tensor] = []
    embedding = model.model.vision_model.embeddings.position_embedding
    hook = embedding.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model.encode_frames(item["frames"])
    hook.remove()
    expected = torch.arange(embedding.num_embeddings, device=seen[0].device)
    return float(max((ids != expected).sum(1).max() for ids in seen))
