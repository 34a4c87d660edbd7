"""Model folders whose weights cannot be used: an error before training, with every such weight named."""

import pytest
import torch
from safetensors.torch import save_file

from dst_dist.errors import CheckpointError
from dst_dist.model.loading import check_before_loading, load_for_inference, load_model
from dst_dist.model.model_config import read_model_config
from dst_dist.model.weight_checks import check_weight_files, check_weights, weight_files
from tests.model.finetuning import recipe, train_and_save
from tests.model.stock_folders import changed_copy


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
        load(changed_copy(tmp_path / "full", tmp_path, change))
    assert f"{tmp_path}/changed: 2 weights hold values that are not finite" in str(fault.value)
    assert str(fault.value).endswith(": model.text_model.layers.{0,1}.mlp.up_proj.weight")


def test_a_single_file_is_read_although_an_index_of_lost_shards_is_left(stock, tmp_path):
    """transformers reads the single file, so the check before loading must not look for the shards."""
    folder = changed_copy(stock, tmp_path, lambda weights: None)
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
        load_model(recipe(changed_copy(stock, tmp_path, change)))
    assert "3 weights have a wrong shape: " in str(fault.value)
    norms = "model.text_model.layers.{0,1}.input_layernorm.weight [16] instead of [32]"
    assert f"lm_head.weight [64, 16] instead of [64, 32], {norms}" in str(fault.value)


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["b", "a"], "a, b"),
        (["layers.10.up", "layers.9.up", "layers.9.down"], "layers.{9,10}.up, layers.9.down"),
        (["vision.0.norm", "text.0.norm"], "text.0.norm, vision.0.norm"),
        (["layers.0.experts.1.up", "layers.0.experts.2.up"], "layers.0.experts.1.up, layers.0.experts.2.up"),
    ],
)
def test_names_of_all_layers_are_listed_as_one(names, listed):
    with pytest.raises(CheckpointError) as fault:
        check_weights("here", names)
    assert str(fault.value) == f"here: {len(names)} weights are missing: {listed}"


def test_every_kind_of_fault_is_listed():
    with pytest.raises(CheckpointError) as fault:
        check_weights("here", ["a"], ["b"], [("c", torch.Size([3]), torch.Size([2, 1]))])
    assert fault.value.faults == (
        "here: 1 weights are missing: a",
        "here: 1 weights belong to no part of the model: b",
        "here: 1 weights have a wrong shape: c [3] instead of [2, 1]",
    )
    check_weights("here", [])


def test_the_files_of_a_model_are_those_that_transformers_reads(tmp_path):
    assert weight_files(tmp_path) == ["model.safetensors"]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}')
    assert weight_files(tmp_path) == ["1.safetensors", "2.safetensors"]
    index.write_text('["a"]')
    with pytest.raises(CheckpointError, match="index.json: not readable"):
        weight_files(tmp_path)


def test_missing_and_cut_off_files_are_named_together(tmp_path):
    save_file({"a": torch.zeros(100)}, tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-10])
    check_weight_files(tmp_path, ["whole.safetensors"])
    with pytest.raises(CheckpointError) as fault:
        check_weight_files(tmp_path, ["cut.safetensors", "none.safetensors"])
    cut, none = fault.value.faults
    assert "cut.safetensors: not readable, was it copied whole?" in cut and "no none.safetensors" in none
