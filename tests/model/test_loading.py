"""Load models for training: a stock folder, or the final folder of an earlier run."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.trainable import parameter_groups, unwrap
from tests.model.finetuning import a_batch, backward, is_head, outputs, recipe, train_and_save
from tests.model.stock_folders import changed_copy


def test_all_stock_weights_are_loaded_the_untied_head_among_them(stock):
    weights = load_file(stock / "model.safetensors")
    loaded = load_model(recipe(stock, "full")).state_dict()
    new = set(loaded) - set(weights)
    assert len(new) == 4 and all(is_head(name) and (name.endswith("bias") or not loaded[name].any()) for name in new)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    assert not torch.equal(loaded["lm_head.weight"], loaded["model.text_model.embed_tokens.weight"])


def test_missing_and_unexpected_weights_are_errors(stock, tmp_path):
    def change(weights):
        weights["model.text_model.layers.7.mlp.up_proj.weight"] = weights.pop("lm_head.weight")

    with pytest.raises(CheckpointError) as fault:
        load_model(recipe(changed_copy(stock, tmp_path, change)))
    assert "1 weights are missing: lm_head.weight" in str(fault.value)
    assert "layers.7.mlp.up_proj.weight" in str(fault.value)


def test_pickled_weights_are_not_read(stock, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(stock, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="not a whole model folder"):
        load_model(recipe(folder))


@pytest.mark.parametrize("tokens", [16, 25])
def test_more_frame_tokens_than_the_grid_has_are_errors(stock, tokens):
    with pytest.raises(ConfigError, match="1, 4, 9"):
        load_model(recipe(stock, tokens=tokens))


def test_a_stock_model_has_no_heads_to_evaluate(stock):
    with pytest.raises(CheckpointError, match="4 weights are missing: dst_update_head"):
        load_for_inference(stock)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_new_weights_come_from_the_seed_alone(stock, mode):
    torch.manual_seed(123)
    first = load_model(recipe(stock, mode, seed=5)).state_dict()
    torch.manual_seed(456)
    again = load_model(recipe(stock, mode, seed=5)).state_dict()
    other = load_model(recipe(stock, mode, seed=6)).state_dict()
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    assert all("lora_A" in name for name in differing)
    assert bool(differing) == (mode == "lora"), "new heads begin alike whatever the seed"


# Continue an earlier run


@pytest.mark.parametrize("then", ["lora", "full"])
@pytest.mark.parametrize("first", ["lora", "full"])
def test_an_earlier_final_folder_is_a_starting_point(stock, tmp_path, first, then):
    model = train_and_save(tmp_path, stock, first)
    again = load_model(recipe(tmp_path, then))
    assert isinstance(again, PeftModel) == (then == "lora")
    torch.testing.assert_close(outputs(again, a_batch(model)), outputs(model, a_batch(model)), rtol=1e-4, atol=1e-5)


def test_a_continued_adapter_trains_and_names_the_first_base(stock, tmp_path):
    train_and_save(tmp_path / "first", stock, "lora")
    again = train_and_save(tmp_path / "second", tmp_path / "first", "lora")
    backward(again, a_batch(again))
    assert all(p.grad is not None for group in parameter_groups(again).values() for _, p in group)
    values = json.loads((tmp_path / "second" / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == str(stock)


@pytest.mark.parametrize(("tokens", "warned"), [(4, False), (1, True)])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_continuing_with_other_frame_tokens_logs_a_warning(stock, tmp_path, caplog, mode, tokens, warned):
    train_and_save(tmp_path, stock, mode)
    model = load_model(recipe(tmp_path, mode, tokens=tokens))
    assert unwrap(model).config.tokens_per_frame == tokens
    assert ("was trained with 4" in caplog.text) == warned
