"""Stock model folders for all tests of the model."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import SmolVLMForConditionalGeneration

from tests.model.tiny import tiny_config


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A stock SmolVLM2 folder: no heads, none of our settings."""
    folder = tmp_path_factory.mktemp("models") / "stock"
    torch.manual_seed(0)
    SmolVLMForConditionalGeneration(tiny_config()).save_pretrained(folder)
    return folder


@pytest.fixture
def stock_copy(stock, tmp_path) -> Path:
    """A copy of the stock folder that a test may change."""
    return Path(shutil.copytree(stock, tmp_path / "stock"))
