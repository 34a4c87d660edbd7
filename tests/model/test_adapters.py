"""Adapters that plain peft made, or whose base is no longer what it was."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.finetune import load_for_inference, load_model, save_model, unwrap
from tests.model.finetuning import a_batch, outputs, recipe, shake, train_and_save

# Going on from plain peft's


def plain_adapter(stock, folder, **settings):
    """A trained adapter of the recipe's form but for `settings`, and the folder peft saved it to."""
    ours = load_model(recipe(stock, "lora")).peft_config["default"]
    form = dict(r=ours.r, lora_alpha=ours.lora_alpha, target_modules=ours.target_modules, modules_to_save=ours.modules_to_save)
    base = load_model(recipe(stock, "full", checkpointing=False))
    model = get_peft_model(base, LoraConfig(base_model_name_or_path=str(stock), **form, **settings))
    shake(model)
    model.save_pretrained(folder)
    unwrap(model).config.save_pretrained(folder)
    return model


@pytest.mark.parametrize("first_weights", [True, "pissa", "olora"])
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


def test_an_adapter_on_a_base_that_was_changed_at_random_is_refused(stock, tmp_path):
    plain_adapter(stock, tmp_path, init_lora_weights="pissa_niter_4")
    with pytest.raises(CheckpointError, match="init_lora_weights is pissa_niter_4"):
        load_for_inference(tmp_path)


def test_dropout_is_the_recipes(stock, tmp_path):
    train_and_save(tmp_path, stock, "lora")
    again = load_model(recipe(tmp_path, "lora", dropout=0.5))
    assert again.peft_config["default"].lora_dropout == 0.5
