"""Fine-tune the real text model: it learns the updates, forgets nothing, and is saved as trained."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import SmolVLMForConditionalGeneration

from dst_dist.model.loading import load_for_inference
from tests.launching import Launched
from tests.real.learning import ENGINES, RECIPE, train
from tests.real.reading import paragraph_ids, paragraph_logits, paragraph_loss, stock_text_model

pytestmark = pytest.mark.long

LOST_AT_MOST = 0.15
"""Nats a token, on text that has nothing to do with the task."""


def halves_the_loss_of_updates(run: Launched) -> bool:
    first, *_, last = (line["loss/dst_gen"] for line in run.metrics())
    print(f"{run.folder}: loss/dst_gen {first:.3f} -> {last:.3f}")
    return last < first / 2


@pytest.fixture(scope="module")
def paragraph(real_model) -> torch.Tensor:
    return paragraph_ids(real_model)


def test_lora_learns_forgets_nothing_and_merges_by_hand(real_model, lora_run, paragraph):
    run = lora_run
    assert halves_the_loss_of_updates(run)
    stock = stock_text_model(real_model)
    before = paragraph_logits(stock.model, stock.lm_head, paragraph)

    ours = load_for_inference(run.folder / "final")
    after = paragraph_logits(ours.model.text_model, ours.lm_head, paragraph)
    losses = paragraph_loss(before, paragraph), paragraph_loss(after, paragraph)
    print(f"other text {losses[0]:.3f} -> {losses[1]:.3f}")
    assert (after - before).abs().max() > 0.01, "the adapter does something"
    assert losses[1] < losses[0] + LOST_AT_MOST

    by_hand = merged_by_hand(stock, run.folder / "final")
    torch.testing.assert_close(paragraph_logits(by_hand.model, by_hand.lm_head, paragraph), after, rtol=1e-3, atol=1e-3)
    base = SmolVLMForConditionalGeneration.from_pretrained(real_model, dtype=torch.float32).eval()
    by_peft = PeftModel.from_pretrained(base, run.folder / "final").get_base_model()
    theirs = paragraph_logits(by_peft.model.text_model, by_peft.lm_head, paragraph)
    torch.testing.assert_close(theirs, after, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def merged_by_hand(text, final: Path):
    """Add alpha / rank * B A from the adapter's file to each weight; return the text model."""
    adapter, lora = load_file(final / "adapter_model.safetensors"), RECIPE["finetune"]["lora"]
    weights = text.state_dict()
    changed = [name.removesuffix(".lora_A.weight") for name in adapter if name.endswith(".lora_A.weight")]
    assert len(changed) == 7 * text.config.num_hidden_layers
    for name in changed:
        update = adapter[f"{name}.lora_B.weight"] @ adapter[f"{name}.lora_A.weight"]
        weight = weights[name.removeprefix("base_model.model.").replace("model.text_model.", "model.") + ".weight"]
        weight.add_(update, alpha=lora["alpha"] / lora["rank"])
    return text


@pytest.mark.parametrize("engine", ENGINES)
def test_one_word_of_yaml_trains_everything_instead(real_model, tmp_path, engine):
    run = train(tmp_path / "full", engine, "full", real_model)
    assert halves_the_loss_of_updates(run)
    before, after = load_file(real_model / "model.safetensors"), load_file(run.folder / "final" / "model.safetensors")
    frozen = {name for name in before if "vision_model" in name}
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == frozen
