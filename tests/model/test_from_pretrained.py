"""`SmolVLMForDST.from_pretrained` itself, as somebody else's code calls it, is as strict as training."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, MistralConfig, Qwen2Config, SmolVLMForConditionalGeneration

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.attention import segmented_causal_attention
from dst_dist.model.folders import read_model_config
from dst_dist.model.loading import load_for_inference
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import HEAD_WEIGHTS, SmolVLMForDST
from tests.model.test_stock_folder import (
    OLDER_NAMES,
    assert_loaded_whole,
    logits_of,
    renamed,
    rewrite,
    stock,
    stock_model,
    trained,
)
from tests.model.tiny import random_frames, tiny_config, tiny_model

__all__ = ["stock"]


@pytest.mark.parametrize("form", OLDER_NAMES)
def test_older_names_are_known(stock, tmp_path, form):
    older = rewrite(stock, tmp_path / "older", lambda weights: renamed(weights, OLDER_NAMES[form]))
    model, info = SmolVLMForDST.from_pretrained(older, dtype=torch.float32, output_loading_info=True)
    assert_loaded_whole(model, stock_model())
    assert set(info["missing_keys"]) == HEAD_WEIGHTS


def test_what_is_missing_and_what_is_unknown_is_refused(stock, tmp_path):
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
def test_a_final_folder_loads_whatever_it_holds(stock, mode):
    model, folder = trained(stock, mode)
    torch.testing.assert_close(logits_of(SmolVLMForDST.from_pretrained(folder)), logits_of(model), rtol=1e-4, atol=1e-5)


def test_an_adapter_without_heads_is_no_trained_model(stock, tmp_path):
    """Each call would decide by heads of its own."""
    base = SmolVLMForConditionalGeneration.from_pretrained(stock)
    get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(tmp_path / "plain")
    shutil.copy(stock / "config.json", tmp_path / "plain")
    with pytest.raises(CheckpointError, match="4 weights are missing: dst_update_head.bias, "):
        load_for_inference(tmp_path / "plain")


@pytest.mark.parametrize("text", [MistralConfig, Qwen2Config, Gemma2Config])
def test_a_text_half_of_another_kind_is_refused(tmp_path, text):
    content = tiny_config().to_dict() | {"text_config": text().to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(content, default=str))
    with pytest.raises(ConfigError, match=f"the text half of .* is of type {text.model_type}, SmolVLM2's is llama"):
        read_model_config(str(tmp_path))


@pytest.mark.parametrize("kind", ["sliding_window", "softcap"])
def test_attention_of_another_kind_is_refused(kind):
    states = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match="knows no sliding_window and no softcap"):
        segmented_causal_attention(torch.nn.Identity(), states, states, states, None, **{kind: 8})


@pytest.mark.parametrize(
    "frames",
    [random_frames(2).float(), random_frames(2)[:, :, ::2], random_frames(2)[:, :, :, :12], random_frames(2)[0]],
    ids=["float", "half as high", "narrow", "one frame"],
)
def test_other_frames_than_the_towers_are_refused(frames):
    with pytest.raises(ValueError, match=r"frames must be uint8 \[N, 3, 48, 48\], found torch\."):
        tiny_model().encode_frames(frames)


def test_a_padding_token_that_is_in_use_learns(tmp_path):
    """SmolVLM2's own is not in use; a model of somebody's may pad with its end of turn."""
    config = tiny_config()
    config.text_config.pad_token_id = 5
    model = SmolVLMForDST(config)
    model.hidden_states(torch.tensor([5, 6, 7]), torch.empty(0, 3, 48, 48, dtype=torch.uint8), [3]).sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[5].abs().max() > 0 and gradient[8].abs().max() == 0


def test_decisions_near_one_are_told_apart():
    """In float32 a logit of 18 and one of 20 are both a probability of 1."""
    model = tiny_model()
    with torch.no_grad():
        model.dst_update_head.weight.zero_()
        model.dst_update_head.weight[1, 0] = 1.0
    states = torch.zeros(2, model.config.text_config.hidden_size)
    states[:, 0] = torch.tensor([18.0, 20.0])
    lower, higher = model.decide(states)[:, HEAD_NAMES.index("dst_update")].tolist()
    assert lower < higher < 1
