"""The grid of a frame's image tokens: its side, and how the tower's patches are averaged to K tokens."""

import math

import torch
import torch.nn.functional as F
from transformers import SmolVLMConfig

from dst_dist.errors import ConfigError


def frame_grid(config: SmolVLMConfig) -> int:
    """Return the side of the connector's grid: 9 (81 tokens) for 2.2B, 8 (64 tokens) for 500M and 256M."""
    return config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor


def pooled_side(config: SmolVLMConfig, tokens_per_frame: int) -> int:
    """Return k, where `tokens_per_frame` = k * k.

    Raises:
        ConfigError: if the number is no square between 1 and the whole grid.
    """
    grid, side = frame_grid(config), math.isqrt(max(tokens_per_frame, 0))
    if side * side != tokens_per_frame or not 1 <= side <= grid:
        allowed = ", ".join(str(k * k) for k in range(1, grid + 1))
        raise ConfigError(f"model.tokens_per_frame: {tokens_per_frame} is not possible with this model, use {allowed}")
    return side


def pool_patches(patches: torch.Tensor, scale: int, side: int) -> torch.Tensor:
    """Average the connector's grid to side x side before its projection, which is linear and so commutes.

    Pooling first makes the projection's input smaller by the same factor; the stock connector then runs
    as it is. A side that does not divide the grid averages torch's adaptive cells.

    Args:
        patches: [N, (grid * scale)^2, C], the tower's output.
        scale: the connector's pixel-shuffle factor.

    Returns:
        [N, (side * scale)^2, C].
    """
    count, channels = patches.shape[0], patches.shape[2]
    grid = math.isqrt(patches.shape[1]) // scale
    if side == grid:
        return patches
    cells = patches.view(count, grid, scale, grid, scale, channels).permute(0, 2, 4, 5, 1, 3)
    pooled = F.adaptive_avg_pool2d(cells.reshape(count, scale * scale * channels, grid, grid), side)
    pooled = pooled.view(count, scale, scale, channels, side, side).permute(0, 4, 1, 5, 2, 3)
    return pooled.reshape(count, (side * scale) ** 2, channels)
