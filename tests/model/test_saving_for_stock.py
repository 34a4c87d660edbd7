"""Saved models open in stock transformers and in plain peft, and compute the same there."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, SmolVLMConfig, SmolVLMForConditionalGeneration

from dst_dist.model.loading import load_for_inference
from dst_dist.model.smolvlm_dst import HEAD_WEIGHTS, SmolVLMForDST
from tests.model.finetuning import a_batch, outputs, train_and_save
from tests.model.stock_folders import logits_of, stock_model, trained
from tests.model.tiny import inputs, pack, sample, tiny_model


@pytest.mark.parametrize("tied", [False, True])
def test_a_full_model_opens_as_the_stock_model(tmp_path, tied):
    stock_model(tied).save_pretrained(tmp_path / "stock")
    before = logits_of(stock_model(tied), stock=True)
    model, folder = trained(tmp_path / "stock", "full")
    opened, info = SmolVLMForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and set(info["unexpected_keys"]) == HEAD_WEIGHTS
    theirs = logits_of(opened.eval(), stock=True)
    torch.testing.assert_close(logits_of(model), theirs, rtol=1e-4, atol=1e-4)
    assert (theirs - before).abs().max() > 0.1
    torch.testing.assert_close(logits_of(load_for_inference(folder)), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_an_adapter_opens_on_the_stock_model_by_plain_peft(tmp_path, tied):
    stock_model(tied).save_pretrained(tmp_path / "stock")
    model, folder = trained(tmp_path / "stock", "lora")
    base = SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "stock", dtype=torch.float32)
    opened = PeftModel.from_pretrained(base, folder).merge_and_unload().eval()
    torch.testing.assert_close(logits_of(model), logits_of(opened, stock=True), rtol=1e-4, atol=1e-4)
    assert (logits_of(model) - logits_of(stock_model(tied), stock=True)).abs().max() > 0.1


def test_stock_transformers_opens_what_is_saved(tmp_path):
    model = tiny_model(tokens_per_frame=9)
    model.save_pretrained(tmp_path)
    assert "segmented_causal" not in (tmp_path / "config.json").read_text()
    batch = pack([sample(model.config, 2, seed=1)])
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert type(stock) is SmolVLMForConditionalGeneration
    pixels = batch.frames.float() / 127.5 - 1
    with torch.no_grad():
        theirs = stock(input_ids=batch.input_ids[None], pixel_values=pixels[None]).logits[0]
        torch.testing.assert_close(model(**inputs(batch)).lm_logits, theirs[batch.lm_positions])


def test_peft_alone_loads_the_adapter_on_a_fresh_base(stock, tmp_path):
    model = train_and_save(tmp_path, stock, "lora")
    base = SmolVLMForDST.from_pretrained(stock, config=SmolVLMConfig.from_pretrained(tmp_path))
    again = PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(outputs(again, a_batch(model)), outputs(model, a_batch(model)))
