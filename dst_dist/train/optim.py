"""Builds the optimizer with its parameter groups, and computes the learning rate from the optimizer step."""

import math
from typing import Any

import torch
from torch.nn import Parameter

from dst_dist import config


def build_optimizer(
    groups: dict[str, list[tuple[str, Parameter]]], optim: config.Optim, fused: bool
) -> torch.optim.AdamW:
    """Build AdamW over the trained parameters: a rate for each part, no decay on norms and biases.

    Args:
        groups: the trained parameters of `text`, `connector`, `vision` and `heads`, by name.
        fused: whether to use torch's fused kernel, for GPUs.
    """
    rates = {
        "text": optim.learning_rate,
        "connector": optim.connector_learning_rate,
        "vision": optim.vision_learning_rate,
        "heads": optim.head_learning_rate,
    }
    settings: list[dict[str, Any]] = []
    for part, named in groups.items():
        rate = optim.learning_rate if rates[part] is None else rates[part]
        decayed = [parameter for _, parameter in named if parameter.ndim > 1]
        plain = [parameter for _, parameter in named if parameter.ndim <= 1]
        for parameters, decay in ((decayed, optim.weight_decay), (plain, 0.0)):
            # DeepSpeed fails on a group without parameters.
            if parameters:
                settings.append({"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(settings, betas=tuple(optim.betas), fused=fused or None)


def rate_factor(step: int, num_steps: int, optim: config.Optim) -> float:
    """Return the share of the peak rate for optimizer step `step` (0 is the first).

    It rises linearly over the warm-up, stays at 1, and follows the schedule to 0 over the last `decay_share` of the
    steps after the warm-up.
    """
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(1, num_steps - optim.warmup_steps)
    fallen = max(0.0, progress - (1 - optim.decay_share)) / optim.decay_share
    if optim.schedule == "constant":
        return 1.0
    if optim.schedule == "linear":
        return 1 - fallen
    return (1 + math.cos(math.pi * fallen)) / 2


def set_rates(param_groups: list[dict[str, Any]], factor: float) -> None:
    """Set every group's rate to a share of its peak."""
    for group in param_groups:
        group["lr"] = group["peak_lr"] * factor
