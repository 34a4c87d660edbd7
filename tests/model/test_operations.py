"""The operations of a step: by hand for a tiny model, and as torch counts them while it runs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dst_dist.config import Recipe
from dst_dist.model.adapters import add_adapter
from dst_dist.model.lora import lora_config
from dst_dist.model.losses import compute_loss
from dst_dist.model.operations import Costs, Operations, costs_of, peak_of_card, peak_operations
from dst_dist.model.trainable import make_trainable
from tests.model.tiny import count_terms, inputs, pack, sample, tiny_model

FULL = {"mode": "full"}
LORA = {"mode": "lora", "lora": {"rank": 4}}
HEADS = {"mode": "full", "train": {"text": False, "connector": False}}


def trained(finetune, **data):
    """Return a tiny float32 model as the recipe trains it, and the recipe."""
    train = {"precision": "fp32", "gradient_checkpointing": False}
    recipe = Recipe.model_validate({"finetune": finetune, "train": train, "data": data})
    model = tiny_model()
    if recipe.finetune.mode == "lora":
        model = add_adapter(model, lora_config(recipe, model))
    make_trainable(model, recipe)
    return model, recipe


# Weights of both text layers: q and o 32 x 32, k and v 32 x 16, three MLP matrices of 32 x 48.
TEXT = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
# A frame has 36 patches of 3 x 8 x 8 pixels, 16 channels wide, MLP 24; the connector makes 9 tokens of 4 x 16 channels.
TOWER = 36 * 2 * (3 * 64 * 16 + 2 * (4 * 16 * 16 + 2 * 16 * 24)) + 36 * 36 * 2 * 4 * 16
# Rank 4 next to each of the seven matrices.
ADAPTER = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))


def test_costs_by_hand():
    costs = costs_of(*trained(FULL))
    assert costs == Costs(6 * TEXT, 2 * 12 * 32, 6 * 32 * 64, 6 * 2 * 32 * 2, 4 * 9 * 64 * 32, TOWER)
    assert costs_of(*trained(LORA)).token == 4 * TEXT + 6 * ADAPTER
    assert costs_of(*trained(LORA)).lm_position == 4 * 32 * 64
    alone = costs_of(*trained(HEADS))
    assert (alone.token, alone.pair, alone.decision) == (2 * TEXT, 2 * 4 * 32, 4 * 2 * 32 * 2)


def test_a_step_by_hand():
    """Samples of 3 and 2 tokens have 6 and 3 causal pairs."""
    assert Costs(1000, 100, 10, 1, 20, 7).of([3, 2], 2, 4, 5) == Operations(5000 + 900 + 40 + 5 + 40, 14)
    assert Operations(3.0, 4.0).total == 7.0


def test_features_cost_no_tower_and_no_connector_that_is_frozen():
    live, cached = costs_of(*trained(FULL)), costs_of(*trained(FULL, feature_cache="cache"))
    assert (cached.tower, cached.connector, cached.token) == (0, live.connector, live.token)
    behind = {**LORA, "train": {"connector": False}}
    assert costs_of(*trained(behind, feature_cache="cache")).connector == 0 < costs_of(*trained(behind)).connector


KINDS = {
    "full": FULL,
    "tower trained": {"mode": "full", "train": {"vision": True}},
    "lora": LORA,
    "connector alone": {"mode": "full", "train": {"text": False}},
    "heads alone": HEADS,
}


@pytest.mark.parametrize("finetune", KINDS.values(), ids=KINDS)
def test_torch_counts_the_same(finetune):
    """torch counts attention without its mask: the other pairs are added to ours."""
    model, recipe = trained(finetune)
    batch = pack([sample(model.config, 2, seed=1), sample(model.config, 1, seed=2)])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss, _ = compute_loss(model(**inputs(batch)), batch, count_terms(batch), recipe.loss, recipe.labels.balance)
        loss.backward()
    costs, lengths = costs_of(model, recipe), batch.segment_lengths
    ours = costs.of(lengths, len(batch.frames), len(batch.lm_positions), len(batch.decision_positions)).total
    masked = sum(length * (length - 1) // 2 for length in lengths)
    assert counter.get_total_flops() == ours + costs.pair * masked


def test_recomputed_layers_count_once():
    model, recipe = trained(FULL)
    again = recipe.model_copy(update={"train": recipe.train.model_copy(update={"gradient_checkpointing": True})})
    assert costs_of(model, again) == costs_of(model, recipe)


CARDS = {
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB MIG 1g.5gb": None,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA GH200 480GB": 989e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L40": None,
    "NVIDIA GeForce RTX 4090": 165e12,
    "NVIDIA GeForce RTX 4090 Laptop GPU": None,
    "NVIDIA A10": 125e12,
    "NVIDIA A10G": None,
    "Tesla V100-SXM2-32GB": None,
}


@pytest.mark.parametrize("name, peak", CARDS.items())
def test_the_right_card_and_no_guess(name, peak):
    assert peak_of_card(name) == peak


def test_a_cpu_and_another_precision_have_no_peak(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert peak_operations(torch.device("cpu"), "bf16", 1) is None
    assert peak_operations(torch.device("cuda"), "fp32", 1) is None
    assert peak_operations(torch.device("cuda"), "bf16", 1) == 989e12
    assert peak_operations(torch.device("cuda"), "bf16", 8) == 8 * 989e12
