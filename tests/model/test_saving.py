"""Saved folders: their files and tensors, and that they load as the same model."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from transformers import SmolVLMForConditionalGeneration

from dst_dist.errors import CheckpointError
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.model_config import SETTINGS
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import parameter_groups, unwrap
from tests.model.finetuning import WAYS, a_batch, outputs, recipe, train_and_save


@pytest.mark.parametrize("way", WAYS)
def test_what_is_saved_gives_the_same_outputs_when_loaded_for_inference(stock, tmp_path, way):
    model = train_and_save(tmp_path / "final", stock, *WAYS[way])
    again = load_for_inference(tmp_path / "final")
    assert type(again) is SmolVLMForDST and not again.training and again.config.tokens_per_frame == 4
    torch.testing.assert_close(outputs(again, a_batch(model)), outputs(model, a_batch(model)), rtol=1e-4, atol=1e-5)


def test_an_adapter_folder_holds_adapter_heads_and_connector_alone(stock, tmp_path):
    model = train_and_save(tmp_path, stock, "lora")
    names = set(load_file(tmp_path / "adapter_model.safetensors"))
    prefix = "base_model.model."
    others = {name.removeprefix(prefix) for name in names if ".lora_" not in name}
    assert others == {
        "dst_update_head.weight",
        "dst_update_head.bias",
        "speaking_head.weight",
        "speaking_head.bias",
        "model.connector.modality_projection.proj.weight",
    }
    trained = sum(p.numel() for group in parameter_groups(model).values() for _, p in group)
    assert 4 * trained < (tmp_path / "adapter_model.safetensors").stat().st_size < 4 * trained + 8000
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"adapter_model.safetensors", "adapter_config.json", "config.json"}


def test_an_adapter_without_connector_does_not_save_it(stock, tmp_path):
    train_and_save(tmp_path, stock, *WAYS["lora-without-connector"])
    assert not [name for name in load_file(tmp_path / "adapter_model.safetensors") if "connector" in name]


def test_an_adapter_names_its_base_as_the_user_did(stock, tmp_path, monkeypatch):
    monkeypatch.chdir(stock.parent)
    train_and_save(tmp_path, "./stock", "lora")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "./stock"


def test_an_adapter_is_saved_from_its_trained_tensors_alone(stock, tmp_path):
    model = train_and_save(tmp_path / "whole", stock, "lora")
    trained = {name: p for group in parameter_groups(model).values() for name, p in group}
    save_model(model, trained, tmp_path / "trained")
    saved = [load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("whole", "trained")]
    torch.testing.assert_close(saved[0], saved[1], rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_given_state_is_saved_not_the_models(stock, tmp_path, mode):
    model = load_model(recipe(stock, mode))
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    save_model(model, state, tmp_path)
    file = "adapter_model.safetensors" if mode == "lora" else "model.safetensors"
    assert not any(tensor.any() for tensor in load_file(tmp_path / file).values())


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_an_incomplete_state_is_an_error(stock, tmp_path, mode):
    model = load_model(recipe(stock, mode))
    state = {name: tensor for name, tensor in model.state_dict().items() if "speaking_head" not in name}
    with pytest.raises(CheckpointError, match="the state to save: 2 weights are missing: .*speaking_head.*bias"):
        save_model(model, state, tmp_path)


def test_a_full_model_with_a_frozen_bf16_tower_keeps_float32(stock, tmp_path):
    model = train_and_save(tmp_path, stock, "full", precision="bf16")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights["lm_head.weight"], model.lm_head.weight)
    assert weights["lm_head.weight"].dtype == torch.float32
    again = SmolVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_thresholds_are_kept_with_full_models_and_adapters(stock, tmp_path):
    for mode in ("lora", "full"):
        model = load_model(recipe(stock, mode))
        unwrap(model).config.dst_threshold, unwrap(model).config.speaking_threshold = 0.2, 0.7
        unwrap(model).config.dst_update_rate, unwrap(model).config.speaking_rate = 0.1, 0.05
        save_model(model, model.state_dict(), tmp_path / mode)
        config = load_for_inference(tmp_path / mode).config
        assert [getattr(config, name) for name in SETTINGS[1:]] == [0.2, 0.1, 0.7, 0.05]
        config = unwrap(load_model(recipe(tmp_path / mode, mode))).config
        assert [getattr(config, name) for name in SETTINGS[1:]] == [0.2, 0.1, 0.7, 0.05]


@pytest.mark.parametrize("way", ["full", "lora"])
def test_the_config_identifies_the_weights(stock, tmp_path, way):
    model = train_and_save(tmp_path / "first", stock, *WAYS[way])
    save_model(model, model.state_dict(), tmp_path / "same")
    with torch.no_grad():
        unwrap(model).speaking_head.bias.add_(1)
    save_model(model, model.state_dict(), tmp_path / "other")
    first, same, other = (
        json.loads((tmp_path / folder / "config.json").read_text())["weights_digest"]
        for folder in ("first", "same", "other")
    )
    assert first == same != other


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600)])
@pytest.mark.parametrize("way", ["full", "lora"])
def test_weights_are_readable_for_those_that_the_umask_allows(stock, tmp_path, way, mask, mode):
    before = os.umask(mask)
    try:
        train_and_save(tmp_path / "final", stock, *WAYS[way])
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "final").iterdir()} == {mode}
