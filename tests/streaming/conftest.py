"""What the tests of streams share."""

import pytest
import torch

from dst_dist.model.loading import load_model
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup


@pytest.fixture(scope="module")
def world(demo_words):
    """(dataset, model in evaluation mode) of the small demo, the model untrained."""
    recipe = load_recipe(["demo", *demo_words, "data.val=[]"])
    setup = DataSetup(recipe)
    torch.manual_seed(0)
    return setup.datasets(setup.check())["train"], load_model(recipe).eval()
