"""Read adapters from disk and load their base; each broken adapter or base is an error."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import SmolVLMForConditionalGeneration

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.loading import load_for_inference, load_model
from tests.model.finetuning import SPEAKING_BIAS, a_batch, outputs, plain_adapter, recipe, train_and_save


@pytest.mark.parametrize("first_weights", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_whose_first_weights_changed_the_base_is_an_error(stock, tmp_path, first_weights):
    plain_adapter(stock, tmp_path, init_lora_weights=first_weights)
    with pytest.raises(CheckpointError, match=f"init_lora_weights is {first_weights}"):
        load_for_inference(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weights: weights.pop(SPEAKING_BIAS), f"1 weights are missing: {SPEAKING_BIAS}"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "belong to no part of the model: extra"),
        (
            lambda weights: weights.update({SPEAKING_BIAS: torch.zeros(3)}),
            rf"have a wrong shape: {SPEAKING_BIAS} \[3\] instead of \[2\]",
        ),
    ],
)
def test_a_spoiled_adapter_is_an_error(stock, tmp_path, spoil, message):
    train_and_save(tmp_path, stock, "lora")
    weights = load_file(tmp_path / "adapter_model.safetensors")
    spoil(weights)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_for_inference(tmp_path)


def test_an_adapter_that_is_no_safetensors_is_an_error(stock, tmp_path):
    train_and_save(tmp_path, stock, "lora")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(CheckpointError, match="not readable"):
        load_for_inference(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="safetensors only"):
        load_for_inference(tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [("{", CheckpointError, "adapter_config.json: not readable"), ('{"peft_type": "IA3"}', ConfigError, "only LoRA")],
)
def test_an_adapter_config_of_another_kind_is_an_error(stock, tmp_path, content, error, message):
    train_and_save(tmp_path, stock, "lora")
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(error, match=message):
        load_model(recipe(tmp_path))


def test_an_adapter_that_is_not_finite_is_named(stock, tmp_path):
    train_and_save(tmp_path, stock, "lora")
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights[SPEAKING_BIAS][0] = torch.nan
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(
        CheckpointError, match=f"adapter_model.safetensors: 1 weights .* not finite .*: {SPEAKING_BIAS}"
    ):
        load_model(recipe(tmp_path, "lora"))


def test_an_adapter_without_heads_is_no_trained_model(stock, tmp_path):
    """Otherwise new heads, which know nothing, would decide."""
    base = SmolVLMForConditionalGeneration.from_pretrained(stock)
    get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(tmp_path / "plain")
    shutil.copy(stock / "config.json", tmp_path / "plain")
    with pytest.raises(CheckpointError, match="4 weights are missing: dst_update_head.bias, "):
        load_for_inference(tmp_path / "plain")


# The base


def test_a_base_may_have_moved(stock, tmp_path):
    shutil.copytree(stock, tmp_path / "base")
    model = train_and_save(tmp_path / "final", tmp_path / "base", "lora")
    expected = outputs(model, a_batch(model))
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="base"):
        load_for_inference(tmp_path / "final")
    again = load_for_inference(tmp_path / "final", base=str(tmp_path / "moved"))
    torch.testing.assert_close(outputs(again, a_batch(model)), expected, rtol=1e-4, atol=1e-5)


def replace_base(folder):
    """Put weights of the same shapes in place of the base's; a single number differs."""
    weights = load_file(folder / "model.safetensors")
    weights["model.text_model.layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "load",
    [
        load_for_inference,
        lambda final: load_model(recipe(final, "lora")),
        lambda final: load_model(recipe(final, "full")),
    ],
    ids=["inference", "lora", "full"],
)
def test_a_base_that_was_replaced_in_place_is_an_error(stock_copy, tmp_path, load):
    train_and_save(tmp_path / "final", stock_copy, "lora")
    load(tmp_path / "final")
    replace_base(stock_copy)
    with pytest.raises(
        CheckpointError, match=f"final: its base {stock_copy} holds other weights than it was trained on; put"
    ):
        load(tmp_path / "final")


def test_a_continued_adapter_knows_its_base(stock_copy, tmp_path):
    train_and_save(tmp_path / "first", stock_copy, "lora")
    train_and_save(tmp_path / "second", tmp_path / "first", "lora")
    replace_base(stock_copy)
    with pytest.raises(CheckpointError, match="second: its base"):
        load_for_inference(tmp_path / "second")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_is_known_in_any_form_and_training_precision(stock_copy, tmp_path, dtype):
    base = SmolVLMForConditionalGeneration.from_pretrained(stock_copy, dtype=dtype)
    base.save_pretrained(stock_copy)
    train_and_save(tmp_path / "final", stock_copy, "lora", precision="bf16")
    base.float().save_pretrained(tmp_path / "moved", max_shard_size="20KB")
    load_for_inference(tmp_path / "final", base=str(tmp_path / "moved"))


def test_the_base_of_an_adapter_without_a_digest_is_not_checked(stock_copy, tmp_path):
    plain_adapter(stock_copy, tmp_path / "plain")
    replace_base(stock_copy)
    load_for_inference(tmp_path / "plain")


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_full_model_from_an_adapter_has_no_base(stock, tmp_path, mode):
    train_and_save(tmp_path / "adapter", stock, "lora")
    train_and_save(tmp_path / "next", tmp_path / "adapter", mode)
    assert ("base_digest" in json.loads((tmp_path / "next/config.json").read_text())) == (mode == "lora")
