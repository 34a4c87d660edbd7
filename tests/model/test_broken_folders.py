"""Model folders whose weights cannot be used: refused before training, with every such weight named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.folders import read_model_config
from dst_dist.model.loading import check_before_loading, load_for_inference, load_model
from tests.model.finetuning import SPEAKING_BIAS, recipe, train_and_save
from tests.model.test_saving import spoiled


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "load", [lambda folder: load_model(recipe(folder)), load_for_inference], ids=["training", "inference"]
)
def test_weights_that_are_not_finite_are_named(stock, tmp_path, value, load):
    train_and_save(tmp_path / "full", stock, "full")

    def change(weights):
        weights["model.text_model.layers.0.mlp.up_proj.weight"][0, 1] = value
        weights["model.text_model.layers.1.mlp.up_proj.weight"][2, 0] = value

    with pytest.raises(CheckpointError) as fault:
        load(spoiled(tmp_path / "full", tmp_path, change))
    named = "2 weights hold values that are not finite: model.text_model.layers.{0,1}.mlp.up_proj.weight"
    assert f"{tmp_path}/spoiled: {named}" in str(fault.value)


def test_an_adapter_that_is_not_finite_is_named(stock, tmp_path):
    train_and_save(tmp_path, stock, "lora")
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights[SPEAKING_BIAS][0] = torch.nan
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=f"adapter_model.safetensors: 1 weights .* not finite: {SPEAKING_BIAS}"):
        load_model(recipe(tmp_path, "lora"))


def test_a_quantized_model_is_refused(stock, tmp_path):
    folder = spoiled(stock, tmp_path, lambda weights: None)
    values = json.loads((folder / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"model.name_or_path: {folder} is quantized .*; name the model it was"):
        load_model(recipe(folder))


def test_a_whole_file_is_read_beside_an_index_of_shards_that_are_gone(stock, tmp_path):
    """As transformers does, so the check before loading must not ask for the shards."""
    folder = spoiled(stock, tmp_path, lambda weights: None)
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}'
    )
    check_before_loading(recipe(folder), read_model_config(str(folder)))
    load_model(recipe(folder))


def test_weights_of_another_shape_are_named_with_both(stock, tmp_path):
    def change(weights):
        weights["lm_head.weight"] = weights["lm_head.weight"][:, :16].contiguous()
        for layer in (0, 1):
            weights[f"model.text_model.layers.{layer}.input_layernorm.weight"] = torch.ones(16)

    with pytest.raises(CheckpointError) as fault:
        load_model(recipe(spoiled(stock, tmp_path, change)))
    assert "3 weights are of another shape than config.json says: " in str(fault.value)
    norms = "model.text_model.layers.{0,1}.input_layernorm.weight [16] instead of [32]"
    assert f"lm_head.weight [64, 16] instead of [64, 32]; {norms}" in str(fault.value)
