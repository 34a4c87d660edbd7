"""Memory without allocating it: equal to real tensors on the CPU, and to what one H100 showed."""

import warnings

import pytest
import torch

from dst_dist.config import Recipe
from dst_dist.model.trainable import unwrap
from dst_dist.plan import simulate
from dst_dist.plan.simulate import LiveBytes, MicroBatchShape, build_model, micro_batch_memory
from dst_dist.plan.states import states_of
from tests.gpu.make_models import SHAPES
from tests.model.tiny import tiny_config

GIB = 2**30
SHAPE = MicroBatchShape((40, 24), 3, 9, 4)
LORA = {"mode": "lora", "lora": {"rank": 4, "alpha": 8}}


def recipe_of(finetune, **train):
    return Recipe.model_validate({"finetune": finetune, "train": {"gradient_checkpointing": False} | train})


def config_of(layers=2):
    config = tiny_config(tokens_per_frame=1)
    config.text_config.num_hidden_layers = layers
    return config


def test_live_bytes_by_hand():
    with LiveBytes() as live:
        kept = torch.zeros(1000)
        view = kept[10:20]
        torch.zeros(500) + torch.zeros(500)
        assert live.now == 4000 and live.peak == 4000 + 3 * 2000
        del kept
        assert live.now == 4000, "a view keeps the storage"
        del view
        assert live.now == 0


def real(recipe, layers):
    """Return the saved bytes after the forward and the peak of a micro-batch with real tensors."""
    model = build_model(recipe, config_of(layers), (layers, 1))
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with LiveBytes() as live:
        simulate.materialize(model)
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        batch = simulate._Batch(unwrap(model), SHAPE)
        before = live.peak = live.now
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            simulate.run_micro_batch(model, recipe, batch)
    return sum(size for place, size in saved.items() if place not in own), live.peak - before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("finetune", [LORA, {"mode": "full"}], ids=["lora", "full"])
def test_fake_tensors_take_what_real_ones_take(finetune, precision):
    recipe = recipe_of(finetune, precision=precision)
    fake = simulate._peak_of_layers(recipe, config_of(), SHAPE, 2, has_gradients=False)
    saved, peak = real(recipe, 2)
    assert fake == pytest.approx(peak, rel=0.01)
    assert fake > saved > 0.5 * fake, "most of the peak is what the backward needs"


def test_layers_lie_on_a_straight_line():
    recipe = recipe_of({"mode": "full"}, precision="bf16")
    found = micro_batch_memory(recipe, config_of(6), SHAPE).text
    assert found == pytest.approx(simulate._peak_of_layers(recipe, config_of(6), SHAPE, 6, False), rel=0.01)


def test_checkpointing_and_features_take_less_and_earlier_gradients_are_not_counted_twice():
    full = {"mode": "full"}
    plain = micro_batch_memory(recipe_of(full), config_of(6), SHAPE)
    again = micro_batch_memory(recipe_of(full, gradient_checkpointing=True), config_of(6), SHAPE)
    assert again.text < 0.7 * plain.text
    assert plain.frames == 3 * 3 * 48 * 48 and plain.tower > 0
    kept = micro_batch_memory(
        Recipe.model_validate(recipe_of(full).model_dump() | {"data": {"feature_cache": "x"}}), config_of(6), SHAPE
    )
    assert kept.tower == 0 and kept.frames == 3 * torch.Size(build_model_shape()).numel() * 2
    assert micro_batch_memory(recipe_of(full), config_of(6), SHAPE, has_gradients=True).text <= plain.text


def build_model_shape():
    return build_model(recipe_of({"mode": "full"}), config_of()).patch_shape


H100 = {
    # One H100 80GB, torch 2.11, one process, K = 1, 15 % supervised tokens: mode, tokens of the samples, peak in GiB.
    "full, one sample of 4,096": ("full", (4096,), 37.8),
    "full, two samples of 4,096": ("full", (4096, 4096), 51.0),
}


@pytest.mark.parametrize("mode, lengths, peak_gib", H100.values(), ids=H100)
def test_the_22b_takes_what_one_h100_showed(mode, lengths, peak_gib):
    recipe, config = recipe_of({"mode": mode}), SHAPES["2.2B"].config()
    shape = MicroBatchShape(lengths, len(lengths), int(0.15 * sum(lengths)), len(lengths))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        states = states_of(build_model(recipe, config), "ddp", 1)
        peak = states.total - states.gradients + micro_batch_memory(recipe, config, shape).peak(False)
    assert peak / GIB == pytest.approx(peak_gib, rel=0.03)
