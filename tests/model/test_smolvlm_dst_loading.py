"""`SmolVLMForDST.from_pretrained` itself, as other code calls it, is as strict as training."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from dst_dist.errors import CheckpointError
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import HEAD_WEIGHTS, SmolVLMForDST
from tests.model.stock_folders import (
    OLDER_NAMES,
    assert_loaded_whole,
    logits_of,
    renamed,
    rewrite,
    stock_model,
    trained,
)
from tests.model.tiny import inputs, pack, sample, tiny_model


@pytest.mark.parametrize("form", OLDER_NAMES)
def test_older_names_are_known(stock, tmp_path, form):
    older = rewrite(stock, tmp_path / "older", lambda weights: renamed(weights, OLDER_NAMES[form]))
    model, info = SmolVLMForDST.from_pretrained(older, dtype=torch.float32, output_loading_info=True)
    assert_loaded_whole(model, stock_model())
    assert set(info["missing_keys"]) == HEAD_WEIGHTS


def test_what_is_missing_and_what_is_unknown_is_an_error(stock, tmp_path):
    other = rewrite(
        stock,
        tmp_path / "other",
        lambda weights: renamed(weights, lambda name: name.replace("text_model.norm", "text_model.end")),
    )
    with pytest.raises(CheckpointError) as fault:
        SmolVLMForDST.from_pretrained(other)
    assert [text.partition(": ")[2] for text in fault.value.faults] == [
        "1 weights are missing: model.text_model.norm.weight",
        "1 weights belong to no part of the model: model.text_model.end.weight",
    ]


@pytest.mark.parametrize("lost", sorted(HEAD_WEIGHTS))
def test_both_heads_are_new_or_neither(tmp_path, lost):
    model = tiny_model()
    save_model(model, model.state_dict(), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if name != lost},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(CheckpointError, match=f"1 weights are missing: {lost}"):
        SmolVLMForDST.from_pretrained(tmp_path)


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_final_folder_loads_whatever_it_holds(stock_copy, mode):
    model, folder = trained(stock_copy, mode)
    torch.testing.assert_close(logits_of(SmolVLMForDST.from_pretrained(folder)), logits_of(model), rtol=1e-4, atol=1e-5)


def test_config_and_heads_survive_saving(tmp_path):
    model = tiny_model(tokens_per_frame=4, dst_threshold=0.3)
    model.save_pretrained(tmp_path)
    again = SmolVLMForDST.from_pretrained(tmp_path)
    config = again.config
    assert (config.tokens_per_frame, config.dst_threshold, config.speaking_threshold) == (4, 0.3, None)
    assert torch.equal(again.dst_update_head.weight, model.dst_update_head.weight)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "smolvlm"


def test_loading_in_bf16_keeps_the_heads_in_float32(tmp_path):
    tiny_model(tokens_per_frame=4).save_pretrained(tmp_path)
    model = SmolVLMForDST.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.speaking_head.weight.dtype == torch.float32
    assert model.lm_head.weight.dtype == torch.bfloat16
    output = model(**inputs(pack([sample(model.config, 2, seed=1)])))
    assert output.decision_logits["speaking"].dtype == torch.float32
