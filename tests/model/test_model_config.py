"""Read a model's config.json; any other model than a SmolVLM2 is an error."""

import json

import pytest
import torch
from transformers import Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

from dst_dist.errors import ConfigError
from dst_dist.model.loading import load_model
from dst_dist.model.model_config import read_model_config
from dst_dist.model.smolvlm_dst import HEAD_WEIGHTS, SmolVLMForDST
from tests.model.finetuning import recipe
from tests.model.stock_folders import PUBLISHED_CONFIG, changed_copy
from tests.model.tiny import tiny_config


def test_the_published_config_gives_the_published_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    config = read_model_config(str(tmp_path))
    assert config.text_config.rope_parameters["rope_theta"] == 100000
    assert config.text_config.pad_token_id == 2 and not config.text_config.tie_word_embeddings
    with torch.device("meta"):
        model = SmolVLMForDST(config)
    own = sum(parameter.numel() for name, parameter in model.named_parameters() if name in HEAD_WEIGHTS)
    assert sum(parameter.numel() for parameter in model.parameters()) - own == 507_482_304


def test_another_kind_of_model_is_an_error(tmp_path):
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is of type llama, not a SmolVLM2"):
        load_model(recipe(tmp_path))


def test_a_model_that_is_not_there_offline_names_the_download_command(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="hf download HuggingFaceTB/SmolVLM2-none"):
        load_model(recipe("HuggingFaceTB/SmolVLM2-none"))


@pytest.mark.parametrize("text", [MistralConfig, Qwen2Config, Gemma2Config])
def test_a_text_half_of_another_kind_is_an_error(tmp_path, text):
    content = tiny_config().to_dict() | {"text_config": text().to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(content, default=str))
    with pytest.raises(ConfigError, match=f"the text half of .* is of type {text.model_type}, SmolVLM2's is llama"):
        read_model_config(str(tmp_path))


def test_a_quantized_model_is_an_error(stock, tmp_path):
    folder = changed_copy(stock, tmp_path, lambda weights: None)
    values = json.loads((folder / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"model.name_or_path: {folder} is quantized .*; name the model it was"):
        load_model(recipe(folder))
