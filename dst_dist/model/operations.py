"""Counts the arithmetic of a training step, for the share of a card's arithmetic that it uses (MFU).

Matrix products are counted, a multiplication and an addition as two operations: the measure of PaLM (Chowdhery et al.,
2022, appendix B). A weight takes 2 a token in the forward pass, 2 where the gradient goes on through it and 2 where it
is trained itself: 6 N a token in full fine-tuning, 4 N through a frozen base. Attention counts the pairs that a causal
mask leaves, each twice as much backward as forward. What is computed again in the backward pass, blank frames and
padding count nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from dst_dist.config import Recipe
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import active_module, unwrap

TERA = 1e12
PEAKS = (
    (r"H100 PCIe", 756 * TERA),
    (r"H[12]00 NVL", 835 * TERA),
    (r"G?H[12]00\b", 989 * TERA),
    (r"A100\b", 312 * TERA),
    (r"L40S\b", 362 * TERA),
    (r"RTX 4090$", 165 * TERA),
    (r"A10$", 125 * TERA),
)
"""Pattern of a card's name, and its bf16 operations a second without sparsity from the maker's data sheet."""


@dataclass(frozen=True)
class Operations:
    """Operations of a step or a micro-batch, the vision tower's apart."""

    text: float
    """Text model, language head, decision heads and connector."""
    tower: float

    @property
    def total(self) -> float:
        return self.text + self.tower


@dataclass(frozen=True)
class Costs:
    """Operations of a model as a recipe trains it, forward and backward."""

    token: int
    """Products of the text layers for a token."""
    pair: int
    """Attention of a token to one token, in all text layers."""
    lm_position: int
    decision: int
    connector: int
    """The connector, for a frame."""
    tower: int
    """The vision tower, for a frame."""

    def of(self, lengths: Iterable[int], num_frames: int, num_lm: int, num_decisions: int) -> Operations:
        """Return the operations of samples of these lengths in tokens.

        Args:
            num_lm, num_decisions: positions at which the language head and the decision heads are read.
        """
        sizes = [int(length) for length in lengths]
        text = self.token * sum(sizes) + self.pair * sum(length * (length + 1) // 2 for length in sizes)
        text += self.lm_position * num_lm + self.decision * num_decisions + self.connector * num_frames
        return Operations(text, self.tower * num_frames)


def costs_of(model: nn.Module, recipe: Recipe) -> Costs:
    """Return the costs of a loaded model; with `data.feature_cache` a frame costs only what follows its features."""
    base: SmolVLMForDST = unwrap(model)
    text, vision, train = base.config.text_config, base.config.vision_config, recipe.finetune.train
    is_cached = recipe.data.feature_cache is not None
    reaches_text = train.text or train.connector or train.vision
    patches = (vision.image_size // vision.patch_size) ** 2
    connector = base.config.tokens_per_frame * _products(active_module(base.model.connector), train.vision)
    # The patch embedding is the first layer: no gradient goes on to the pixels.
    embedding = base.model.vision_model.embeddings
    tower = patches * (_products(base.model.vision_model.encoder, train.vision) + _products(embedding, False))
    tower += patches**2 * vision.num_hidden_layers * _attention(vision.hidden_size, train.vision)
    heads = (active_module(getattr(base, name)) for name in HEAD_MODULES)
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Costs(
        token=_products(base.model.text_model.layers, reaches_text),
        pair=text.num_hidden_layers * _attention(text.num_attention_heads * head_size, reaches_text),
        lm_position=_products(base.lm_head, reaches_text),
        decision=sum(_products(head, reaches_text) for head in heads),
        connector=0 if is_cached and not train.connector else connector,
        tower=0 if is_cached else tower,
    )


def _products(module: nn.Module, goes_on: bool) -> int:
    """Return the operations of a module's products for one row of their input.

    Args:
        goes_on: whether the gradient goes on to what comes before.
    """
    weights = [one.weight for one in module.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    return sum(2 * weight.numel() * (1 + goes_on + weight.requires_grad) for weight in weights)


def _attention(width: int, goes_on: bool) -> int:
    """Return the operations of a layer for one pair: two products forward, four backward, of `width` = heads * size."""
    return 4 * width * (3 if goes_on else 1)


def peak_operations(device: torch.device, precision: str, num_devices: int) -> float | None:
    """Return the operations a second in bf16 of equal devices; None in another precision, on unknown cards or a CPU."""
    if device.type != "cuda" or precision != "bf16":
        return None
    peak = peak_of_card(torch.cuda.get_device_name(device))
    return None if peak is None else peak * num_devices


def peak_of_card(name: str) -> float | None:
    """Return a card's operations a second in bf16, or None if it is not known or is a slice of a card."""
    if "MIG" in name.split():
        return None
    return next((peak for pattern, peak in PEAKS if re.search(rf"\b{pattern}", name)), None)
