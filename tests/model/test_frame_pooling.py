"""The grid of a frame's tokens, and the averaging of patches to it."""

import pytest
import torch

from dst_dist.errors import ConfigError
from dst_dist.model.frame_pooling import frame_grid, pool_patches
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from tests.model.tiny import tiny_config


@pytest.mark.parametrize(("side", "expected"), [(1, [5]), (2, [3, 4, 6, 7]), (3, list(range(1, 10)))])
def test_pool_patches_by_hand(side, expected):
    patches = torch.arange(1.0, 10).reshape(1, 9, 1)
    assert pool_patches(patches, 1, side).flatten().tolist() == expected


def test_pool_patches_averages_patches_of_the_same_place_within_their_cell():
    # A grid of 2 x 2 cells of 2 x 2 patches; each patch says its place within its cell.
    patches = torch.tensor([[0.0, 1], [2, 3]]).repeat(2, 2).reshape(1, 16, 1)
    assert pool_patches(patches, 2, 1).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("tokens", [2, 8, 16, 81, -1])
def test_an_impossible_number_of_frame_tokens_names_the_possible_ones(tokens):
    with pytest.raises(ConfigError, match="tokens_per_frame.*1, 4, 9$"):
        SmolVLMForDST(tiny_config(tokens_per_frame=tokens))


@pytest.mark.parametrize(("size", "patch", "scale", "grid"), [(384, 14, 3, 9), (512, 16, 4, 8)])
def test_the_grids_of_the_published_models(size, patch, scale, grid):
    assert frame_grid(tiny_config(image_size=size, patch_size=patch, scale_factor=scale)) == grid
