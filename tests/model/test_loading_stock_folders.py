"""Folders of weights as they come from the hub or out of transformers, in all their forms."""

import pytest
import torch
from safetensors.torch import load_file

from dst_dist.errors import CheckpointError
from dst_dist.model.loading import load_model
from dst_dist.model.saving import save_model
from tests.model.stock_folders import OLDER_NAMES, assert_loaded_whole, renamed, rewrite, stock_model, whole_grid_recipe


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_of_a_stock_folder_is_loaded(tmp_path, tied, dtype, shards):
    stock = stock_model(tied, dtype)
    stock.save_pretrained(tmp_path, max_shard_size="20KB" if shards else "1GB")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 2) == shards
    model = load_model(whole_grid_recipe(tmp_path))
    assert_loaded_whole(model, stock)
    assert (model.lm_head.weight is model.model.text_model.embed_tokens.weight) == tied


@pytest.mark.parametrize("form", OLDER_NAMES)
def test_older_names_of_weights_are_known(stock, tmp_path, form):
    older = rewrite(stock, tmp_path / "older", lambda weights: renamed(weights, OLDER_NAMES[form]))
    assert not any("text_model" in name for name in load_file(older / "model.safetensors"))
    model = load_model(whole_grid_recipe(older))
    assert_loaded_whole(model, stock_model())
    save_model(model, model.state_dict(), tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == model.state_dict().keys()


def test_each_missing_and_each_unexpected_weight_is_named(stock, tmp_path):
    def other(weights):
        return renamed(weights, lambda name: name.replace("self_attn", "attention") if "text_model" in name else name)

    with pytest.raises(CheckpointError) as fault:
        load_model(whole_grid_recipe(rewrite(stock, tmp_path / "other", other)))
    parts = [f"{part}_proj.weight" for part in "kqvo"]
    missing, unexpected = sorted(fault.value.faults, key=lambda text: "missing" not in text)
    assert "8 weights are missing" in missing and "8 weights belong to no part" in unexpected
    for part in parts:
        assert "model.text_model.layers.{0,1}.self_attn." + part in missing
        assert "model.text_model.layers.{0,1}.attention." + part in unexpected


@pytest.mark.parametrize(
    "lost", ["lm_head.weight", "model.connector.modality_projection.proj.weight", "model.text_model.norm.weight"]
)
def test_only_the_two_heads_may_be_new(stock, tmp_path, lost):
    lacking = rewrite(stock, tmp_path / "lacking", lambda weights: {k: v for k, v in weights.items() if k != lost})
    with pytest.raises(CheckpointError, match=f"1 weights are missing: {lost}"):
        load_model(whole_grid_recipe(lacking))


def test_a_backbone_without_language_head_is_an_error(tmp_path):
    stock_model().model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="1 weights are missing: lm_head.weight"):
        load_model(whole_grid_recipe(tmp_path))


def test_a_backbone_with_a_tied_head_is_whole_and_saved_by_its_full_names(tmp_path):
    stock = stock_model(tied=True)
    stock.model.save_pretrained(tmp_path / "stock")
    model = load_model(whole_grid_recipe(tmp_path / "stock"))
    assert_loaded_whole(model, stock)
    save_model(model, model.state_dict(), tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == model.state_dict().keys() - {"lm_head.weight"}


def test_a_language_head_that_differs_is_kept_although_the_config_ties_it(tmp_path):
    stock_model(tied=True).save_pretrained(tmp_path / "tied")
    own = torch.full_like(stock_model().lm_head.weight, 0.5)
    folder = rewrite(tmp_path / "tied", tmp_path / "own", lambda weights: weights | {"lm_head.weight": own})
    model = load_model(whole_grid_recipe(folder))
    assert torch.equal(model.lm_head.weight, own)
