"""Random micro-batches fill the recipe's limits, and what the table says of them is what they hold."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dst_dist.bench.synthetic import SyntheticDataset
from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan, micro_batches
from dst_dist.data.samples import Limits
from dst_dist.errors import ConfigError
from dst_dist.model.losses import compute_loss
from tests.model.tiny import IMAGE_TOKEN, count_terms, inputs, tiny_config, tiny_model


def made(max_tokens, max_frames, max_seq_len=400, tokens_per_frame=1, connector=True, **data):
    """Return a recipe and its dataset for a tiny model of 512 positions."""
    train = {"max_tokens": max_tokens, "max_frames": max_frames, "global_batch_size": 6}
    model = {"tokens_per_frame": tokens_per_frame}
    sections = {"train": train, "model": model, "data": {"max_seq_len": max_seq_len, **data}}
    recipe = Recipe.model_validate({**sections, "finetune": {"train": {"connector": connector}}})
    return recipe, SyntheticDataset(recipe, SimpleNamespace(config=tiny_config(), max_positions=512))


@pytest.mark.parametrize(
    "limits, size",
    [
        # Three samples of 333; 40 frames are 13 each.
        ((1000, 40), (333, 13)),
        # Two samples of 300 tokens, of which 225 may be frames of one token.
        ((600, 5000), (300, 225)),
        # A frame has 9 tokens: 25 frames.
        ((600, 5000, 400, 9), (300, 25)),
        # No longer than the model's positions.
        ((1024, 20, 4096), (512, 10)),
    ],
)
def test_a_micro_batch_is_full(limits, size):
    _, data = made(*limits)
    assert set(zip(data.samples["tokens"].tolist(), data.samples["frames"].tolist(), strict=True)) == {size}


def test_a_batch_is_what_the_table_counts_and_the_model_reads():
    recipe, data = made(600, 40, tokens_per_frame=9)
    model = tiny_model()
    data.fit_to(model, recipe)
    plan = BatchPlan(data.weights, 6, 0, data.fingerprint)
    (step, epoch, draws), (_, _, again) = plan.steps(0, 2)
    specs = micro_batches(step, epoch, draws, data.samples, Limits(600, 40), 0, 1)
    assert [len(spec.draws) for spec in specs] == [2, 2, 2] and len(again) == 6
    batch = data[specs[0]]
    assert (batch.segment_lengths, len(batch.frames)) == ([300, 300], 40)
    assert (batch.input_ids == IMAGE_TOKEN).sum() == 40 * 9 and batch.input_ids.max() < 64
    assert (batch.input_ids[batch.decision_positions] == IMAGE_TOKEN).all() and len(batch.decision_positions) == 40
    assert count_terms(batch) == data.counts(specs[0].draws, 0)
    loss, _ = compute_loss(model(**inputs(batch)), batch, data.counts(draws, 0), recipe.loss, recipe.labels.balance)
    assert torch.isfinite(loss) and loss > 0
    assert not np.array_equal(batch.input_ids, data[specs[1]].input_ids)


@pytest.mark.parametrize("connector", [True, False])
def test_cached_features_take_the_place_of_frames(connector):
    recipe, data = made(600, 40, connector=connector, feature_cache="cache")
    model = tiny_model(tokens_per_frame=1)
    data.fit_to(model, recipe)
    shape = model.patch_shape if connector else model.embedding_shape
    assert data.frame.shape == torch.Size(shape) and data.frame_cost == 0


def test_auto_needs_data():
    with pytest.raises(ConfigError, match="train.max_tokens: auto needs real data"):
        made("auto", 40)
