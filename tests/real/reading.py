"""Compute a model's language loss on clips and on other text, without training."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from dst_dist.data.batching import Draw, PackedBatch, micro_batches
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.real.make_model import IMAGE

PARAGRAPH = """The lighthouse stood at the end of a long stone pier, and for more than a hundred years it had guided
ships into the harbor. In the winter, when the storms came in from the north, the waves would climb over the wall and
cover the windows with salt. The keeper and his daughter lived in a small house beside the tower. Every evening they
walked up the narrow stairs, lit the lamp, and sat together for a while to watch the sea. She learned the names of the
stars there, and he told her stories about the islands that he had visited as a young man."""
"""English that has nothing to do with the task."""


def load(folder: Path) -> SmolVLMForDST:
    """Return the model in float32, with one token a frame."""
    settings = SmolVLMForDST.config_class.from_pretrained(folder)
    settings.tokens_per_frame = 1
    return SmolVLMForDST.from_pretrained(folder, config=settings, dtype=torch.float32).eval()


def micro_batches_of(model: Path, root: Path, names: Sequence[str], max_tokens: int = 8192) -> list[PackedBatch]:
    """Return all samples of some datasets, packed as training on one process packs them."""
    words = [f"model.name_or_path={model}", f"data.root={root}", f"data.train=[{', '.join(names)}]", "data.val=[]"]
    setup = DataSetup(load_recipe([*words, f"train.max_tokens={max_tokens}"]))
    data = setup.datasets(setup.check())["train"]
    draws = [Draw(index, 0) for index in range(len(data))]
    return [data[spec] for spec in micro_batches(0, 0, draws, data.samples, setup.limits, 0, 1)]


@torch.no_grad()
def token_losses(model: SmolVLMForDST, batch: PackedBatch) -> torch.Tensor:
    """Return the loss of every supervised token, float32 [P]."""
    return F.cross_entropy(_logits(model, batch), batch.lm_targets, reduction="none")


@torch.no_grad()
def loss_one_too_far(model: SmolVLMForDST, batch: PackedBatch) -> float:
    """Return the loss against the token after the next, as if labels were shifted twice."""
    places = batch.lm_positions + 2
    inside = places < len(batch.input_ids)
    return F.cross_entropy(_logits(model, batch)[inside], batch.input_ids[places[inside]]).item()


def mean_loss(model: SmolVLMForDST, batches: Sequence[PackedBatch]) -> float:
    """Return the mean over all supervised tokens, as `loss/lm` is."""
    return torch.cat([token_losses(model, batch) for batch in batches]).mean().item()


def stock_text_model(folder: Path) -> LlamaForCausalLM:
    """Return the text half of a SmolVLM2 folder as transformers' causal model, from the file of weights alone."""
    settings = SmolVLMForDST.config_class.from_pretrained(folder).text_config
    weights = load_file(folder / "model.safetensors")
    prefix = "model.text_model."
    text = {f"model.{name.removeprefix(prefix)}": weights[name] for name in weights if name.startswith(prefix)}
    model = LlamaForCausalLM(settings)
    model.load_state_dict(text | {"lm_head.weight": weights["lm_head.weight"]})
    return model.eval()


@torch.no_grad()
def stock_token_losses(text: LlamaForCausalLM, frames: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """Return the same losses from the stock text model, with frame embeddings put in place here.

    Args:
        frames: [N, hidden], the frames' embeddings.
    """
    (length,) = batch.segment_lengths
    assert length == len(batch.input_ids), "one sample: the stock model knows no packing"
    embeddings = text.get_input_embeddings()(batch.input_ids)
    embeddings[batch.input_ids == IMAGE] = frames
    logits = text(inputs_embeds=embeddings[None]).logits[0]
    return F.cross_entropy(logits[batch.lm_positions], batch.input_ids[batch.lm_positions + 1], reduction="none")


def paragraph_ids(model: Path) -> torch.Tensor:
    """Return the ids of PARAGRAPH, int64 [T]."""
    return torch.tensor(AutoTokenizer.from_pretrained(model)(PARAGRAPH.replace("\n", " ")).input_ids)


@torch.no_grad()
def paragraph_logits(text_model, lm_head, ids: torch.Tensor) -> torch.Tensor:
    """Return a text model's logits of one text, [T, vocabulary]."""
    return lm_head(text_model(input_ids=ids[None]).last_hidden_state[0])


def paragraph_loss(logits: torch.Tensor, ids: torch.Tensor) -> float:
    """Return the mean loss of the next token."""
    return F.cross_entropy(logits[:-1], ids[1:]).item()


def _logits(model: SmolVLMForDST, batch: PackedBatch) -> torch.Tensor:
    output = model(batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions)
    return output.lm_logits.float()
