"""Adapters that plain peft made, or whose base is no longer what it was."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import SmolVLMForConditionalGeneration

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.saving import save_model
from dst_dist.model.trainable import unwrap
from tests.model.finetuning import a_batch, outputs, recipe, shake, train_and_save

# Going on from plain peft's


def plain_adapter(stock, folder, **settings):
    """A trained adapter of the recipe's form but for `settings`, and the folder peft saved it to."""
    ours = load_model(recipe(stock, "lora")).peft_config["default"]
    form = dict(
        r=ours.r, lora_alpha=ours.lora_alpha, target_modules=ours.target_modules, modules_to_save=ours.modules_to_save
    )
    base = load_model(recipe(stock, "full", checkpointing=False))
    model = get_peft_model(base, LoraConfig(base_model_name_or_path=str(stock), **form, **settings))
    shake(model)
    model.save_pretrained(folder)
    unwrap(model).config.save_pretrained(folder)
    return model


@pytest.mark.parametrize("first_weights", [True, "gaussian", "orthogonal"])
def test_a_continued_adapter_computes_what_it_did(stock, tmp_path, first_weights):
    model = plain_adapter(stock, tmp_path / "plain", init_lora_weights=first_weights)
    expected = outputs(model, a_batch(model))
    again = load_model(recipe(tmp_path / "plain", "lora"))
    torch.testing.assert_close(outputs(again, a_batch(model)), expected, rtol=1e-4, atol=1e-4)
    save_model(again, again.state_dict(), tmp_path / "saved")
    saved = load_for_inference(tmp_path / "saved")
    torch.testing.assert_close(outputs(saved, a_batch(model)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("use_rslora", True, "True"),
        ("alpha_pattern", {"q_proj": 64}, "{'q_proj': 64}"),
        ("rank_pattern", {"q_proj": 8}, "{'q_proj': 8}"),
        ("use_dora", True, "True"),
    ],
)
def test_an_adapter_of_a_form_that_no_recipe_has_is_not_continued(stock, tmp_path, field, value, shown):
    model = plain_adapter(stock, tmp_path, **{field: value})
    with pytest.raises(ConfigError, match="finetune.mode: full") as fault:
        load_model(recipe(tmp_path, "lora"))
    assert f"its {field} is {shown}, the recipe's adapters have {type(value)()}" in str(fault.value)
    merged = load_model(recipe(tmp_path, "full"))
    torch.testing.assert_close(outputs(merged, a_batch(model)), outputs(model, a_batch(model)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("first_weights", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_whose_first_weights_changed_the_base_is_refused(stock, tmp_path, first_weights):
    plain_adapter(stock, tmp_path, init_lora_weights=first_weights)
    with pytest.raises(CheckpointError, match=f"init_lora_weights is {first_weights}"):
        load_for_inference(tmp_path)


def test_dropout_is_the_recipes(stock, tmp_path):
    train_and_save(tmp_path, stock, "lora")
    again = load_model(recipe(tmp_path, "lora", dropout=0.5))
    assert again.peft_config["default"].lora_dropout == 0.5


# A base that is no longer what it was


@pytest.fixture
def own_base(stock, tmp_path):
    """A copy of the stock folder that a test may change."""
    return Path(shutil.copytree(stock, tmp_path / "base"))


def replace_base(folder):
    """Another model's weights of the same shapes: a single one differs."""
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
def test_a_base_that_was_replaced_in_place_is_refused(own_base, tmp_path, load):
    train_and_save(tmp_path / "final", own_base, "lora")
    load(tmp_path / "final")
    replace_base(own_base)
    with pytest.raises(
        CheckpointError, match=f"final: its base {own_base} holds other weights than it was trained on; put"
    ):
        load(tmp_path / "final")


def test_a_continued_adapter_knows_its_base(own_base, tmp_path):
    train_and_save(tmp_path / "first", own_base, "lora")
    train_and_save(tmp_path / "second", tmp_path / "first", "lora")
    replace_base(own_base)
    with pytest.raises(CheckpointError, match="second: its base"):
        load_for_inference(tmp_path / "second")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_is_known_in_any_form_and_training_precision(own_base, tmp_path, dtype):
    base = SmolVLMForConditionalGeneration.from_pretrained(own_base, dtype=dtype)
    base.save_pretrained(own_base)
    train_and_save(tmp_path / "final", own_base, "lora", precision="bf16")
    base.float().save_pretrained(tmp_path / "moved", max_shard_size="20KB")
    load_for_inference(tmp_path / "final", base=str(tmp_path / "moved"))


def test_the_base_of_an_adapter_without_a_digest_is_not_checked(own_base, tmp_path):
    plain_adapter(own_base, tmp_path / "plain")
    replace_base(own_base)
    load_for_inference(tmp_path / "plain")


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_full_model_from_an_adapter_has_no_base(stock, tmp_path, mode):
    train_and_save(tmp_path / "adapter", stock, "lora")
    train_and_save(tmp_path / "next", tmp_path / "adapter", mode)
    assert ("base_digest" in json.loads((tmp_path / "next/config.json").read_text())) == (mode == "lora")
