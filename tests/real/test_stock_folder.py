"""Load the real text half from every form in which stock transformers and its earlier releases save a model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SmolVLMForConditionalGeneration

from dst_dist.errors import CheckpointError
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.saving import save_model
from dst_dist.recipes.loading import load_recipe
from tests.real.make_model import IMAGE

pytestmark = pytest.mark.long

HEADS = {f"{head}.{kind}" for head in HEAD_MODULES for kind in ("weight", "bias")}
FORMS = {
    "fp32": (torch.float32, False, "200MB", None),
    "bf16": (torch.bfloat16, False, "100MB", None),
    "tied": (torch.float32, True, "200MB", None),
    "tied, bf16": (torch.bfloat16, True, "5GB", None),
    "model.language_model": (torch.float32, False, "200MB", "model.language_model"),
    "language_model.model": (torch.bfloat16, False, "100MB", "language_model.model"),
    "tied, model.language_model": (torch.bfloat16, True, "100MB", "model.language_model"),
}
"""Dtype, whether the language head is the embeddings, size of a file, and an earlier release's prefix of the text."""
FRAME_TOKENS = 4
"""The whole grid, which the stock model has too."""


def older(name: str, prefix: str) -> str:
    """Return the name that earlier releases gave a weight."""
    if prefix == "language_model.model" and name == "lm_head.weight":
        return "language_model.lm_head.weight"
    name = name.replace("model.text_model.", f"{prefix}.")
    return name.removeprefix("model.") if prefix == "language_model.model" else name


def rewrite(folder: Path, rename) -> None:
    """Rename the weights of a folder, file by file; None leaves one out."""
    index = folder / "model.safetensors.index.json"
    for file in folder.glob("*.safetensors"):
        weights = {rename(name): tensor for name, tensor in load_file(file).items()}
        weights.pop(None, None)
        save_file(weights, file, metadata={"format": "pt"})
    if index.exists():
        content = json.loads(index.read_text())
        renamed = {rename(name): file for name, file in content["weight_map"].items()}
        renamed.pop(None, None)
        index.write_text(json.dumps(content | {"weight_map": renamed}))


@pytest.fixture(scope="module")
def stock(real_model) -> SmolVLMForConditionalGeneration:
    return SmolVLMForConditionalGeneration.from_pretrained(real_model, dtype=torch.float32)


@pytest.fixture
def folder_of(stock, real_model, tmp_path):
    """Return a function that writes one of the forms with stock transformers."""

    def write(form: str) -> tuple[Path, dict[str, torch.Tensor]]:
        dtype, tied, file_size, prefix = FORMS[form]
        settings = type(stock.config).from_dict(stock.config.to_dict())
        settings.tie_word_embeddings = settings.text_config.tie_word_embeddings = tied
        model = SmolVLMForConditionalGeneration(settings)
        model.load_state_dict(stock.state_dict())
        model.to(dtype).save_pretrained(tmp_path / "stock", max_shard_size=file_size)
        if prefix is not None:
            rewrite(tmp_path / "stock", lambda name: older(name, prefix))
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(real_model / name, tmp_path / "stock")
        return tmp_path / "stock", {name: tensor.float() for name, tensor in model.state_dict().items()}

    return write


def load(folder: Path, mode: str = "full"):
    words = [f"model.name_or_path={folder}", f"model.tokens_per_frame={FRAME_TOKENS}", "train.precision=fp32"]
    return load_model(load_recipe([mode, *words]))


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_is_loaded(folder_of, form):
    folder, expected = folder_of(form)
    names = {name for file in folder.glob("*.safetensors") for name in load_file(file)}
    assert len(list(folder.glob("*.safetensors"))) > 2 or "5GB" in FORMS[form]
    assert any(name.startswith(FORMS[form][3] or "model.text_model") for name in names)
    loaded = load(folder).state_dict()
    assert loaded.keys() - expected.keys() == HEADS and not expected.keys() - loaded.keys()
    for name, tensor in expected.items():
        assert loaded[name].dtype == torch.float32 and torch.equal(loaded[name], tensor), name


def test_each_missing_and_each_unexpected_weight_is_named(folder_of):
    folder, _ = folder_of("bf16")
    lost = {"model.text_model.norm.weight": None, "lm_head.weight": "lm_head.weights"}
    rewrite(folder, lambda name: lost.get(name, name.replace(".self_attn.q_proj", ".self_attn.query")))
    with pytest.raises(CheckpointError) as fault:
        load(folder)
    missing, unexpected = sorted(fault.value.faults, key=lambda text: "missing" not in text)
    text = f"model.text_model.layers.{{{','.join(map(str, range(30)))}}}.self_attn"
    tower = "model.vision_model.encoder.layers.{0,1}.self_attn"
    assert "36 weights are missing" in missing and "35 weights belong to no part of the model" in unexpected
    for name in ("lm_head.weight", "model.text_model.norm.weight", f"{text}.q_proj.weight", f"{tower}.q_proj.bias"):
        assert name in missing
    for name in ("lm_head.weights", f"{text}.query.weight", f"{tower}.query.bias"):
        assert name in unexpected


@pytest.mark.parametrize(
    "lost",
    [
        "model.text_model.layers.29.mlp.down_proj.weight",
        "lm_head.weight",
        "model.connector.modality_projection.proj.weight",
    ],
)
def test_only_the_two_heads_may_be_new(folder_of, lost):
    folder, _ = folder_of("bf16")
    rewrite(folder, lambda name: None if name == lost else name)
    with pytest.raises(CheckpointError, match=f"1 weights are missing: {lost}"):
        load(folder)


@torch.no_grad()
@pytest.mark.parametrize("form", ["fp32", "tied", "language_model.model"])
def test_a_trained_model_opens_as_its_stock_backbone(folder_of, tmp_path, form):
    folder, before = folder_of(form)
    model = load(folder)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * parameter.abs().mean() * torch.randn_like(parameter))
    save_model(model, model.state_dict(), tmp_path / "final")
    opened, info = SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "final", output_loading_info=True)
    assert not info["missing_keys"] and set(info["unexpected_keys"]) == HEADS
    assert (opened.lm_head.weight is opened.model.text_model.embed_tokens.weight) == FORMS[form][1]
    theirs, ours = logits_of(opened.eval()), own_logits_of(load_for_inference(tmp_path / "final"))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(own_logits_of(model.eval()), theirs, rtol=1e-3, atol=1e-3)
    opened.load_state_dict(before)
    assert (logits_of(opened) - theirs).abs().max() > 0.1


TEXT = [1, 9690, 42, 2683, 451, 506, 5356, 5646]
"""`<|im_start|>`, and words."""


def row() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids of two frames and some text, and the frames, uint8 [2, 3, 64, 64]."""
    frames = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = [IMAGE] * FRAME_TOKENS
    return torch.tensor([*TEXT, *image, *TEXT[::-1], *image, *TEXT]), frames


def logits_of(stock) -> torch.Tensor:
    ids, frames = row()
    return stock(input_ids=ids[None], pixel_values=(frames.float() / 127.5 - 1)[None]).logits[0]


def own_logits_of(model) -> torch.Tensor:
    ids, frames = row()
    return model(ids, frames, [len(ids)], torch.arange(len(ids)), torch.tensor([len(ids) - 1])).lm_logits
