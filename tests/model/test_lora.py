"""The recipe's LoRA config, and training earlier adapters further under it."""

import pytest
import torch

from dst_dist.errors import ConfigError
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.saving import save_model
from dst_dist.model.trainable import parameter_groups
from tests.model.finetuning import a_batch, outputs, plain_adapter, recipe, train_and_save


def test_lora_is_on_the_named_layers_of_the_text_model_only(stock):
    model = load_model(recipe(stock, target_modules=["q_proj", "down_proj"]))
    adapted = {name.rpartition(".")[0] for name, module in model.named_modules() if name.endswith(".lora_A")}
    layers = "base_model.model.model.text_model.layers"
    assert adapted == {f"{layers}.{i}.{name}" for i in range(2) for name in ("self_attn.q_proj", "mlp.down_proj")}


def test_unknown_target_modules_are_named(stock):
    with pytest.raises(ConfigError, match="target_modules.*no out_proj, query; it has down_proj, gate_proj"):
        load_model(recipe(stock, target_modules=["q_proj", "query", "out_proj"]))


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
def test_an_adapter_with_settings_that_no_recipe_has_is_merged_but_not_continued(stock, tmp_path, field, value, shown):
    model = plain_adapter(stock, tmp_path, **{field: value})
    with pytest.raises(ConfigError, match="finetune.mode: full") as fault:
        load_model(recipe(tmp_path, "lora"))
    assert f"finetune.lora.{field}: {type(value)()} differs from the adapter's {shown}" in str(fault.value)
    merged = load_model(recipe(tmp_path, "full"))
    torch.testing.assert_close(outputs(merged, a_batch(model)), outputs(model, a_batch(model)), rtol=1e-4, atol=1e-4)


def test_a_continued_adapter_takes_the_dropout_of_the_recipe(stock, tmp_path):
    train_and_save(tmp_path, stock, "lora")
    again = load_model(recipe(tmp_path, "lora", dropout=0.5))
    assert again.peft_config["default"].lora_dropout == 0.5


@pytest.mark.parametrize("trained_before", [True, False])
def test_a_continued_adapter_may_switch_the_connector(stock, tmp_path, trained_before):
    model = train_and_save(tmp_path / "first", stock, "lora", dict(connector=trained_before))
    again = load_model(recipe(tmp_path / "first", "lora", dict(connector=not trained_before)))
    assert bool(parameter_groups(again)["connector"]) == (not trained_before)
    expected = outputs(model, a_batch(model))
    torch.testing.assert_close(outputs(again, a_batch(model)), expected)
    save_model(again, again.state_dict(), tmp_path / "second")
    saved = load_for_inference(tmp_path / "second")
    torch.testing.assert_close(outputs(saved, a_batch(model)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("lora", "key"),
    [(dict(rank=8), "rank"), (dict(alpha=16), "alpha"), (dict(target_modules=["q_proj"]), "target_modules")],
)
def test_continuing_an_adapter_with_other_lora_settings_is_an_error(stock, tmp_path, lora, key):
    train_and_save(tmp_path, stock, "lora")
    with pytest.raises(ConfigError, match=f"finetune.lora.{key}.*differs from the adapter's"):
        load_model(recipe(tmp_path, "lora", **lora))
