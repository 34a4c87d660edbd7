"""Folders as they come from the hub or out of transformers itself, in all their forms."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    GPT2Tokenizer,
    SmolVLMForConditionalGeneration,
)

from dst_dist.config import Recipe
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.folders import read_model_config
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.model_files import ModelFiles
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from tests.gpu.make_models import NAMED_TOKENS, make_tokenizer
from tests.model.tiny import random_frames, tiny_config

HEADS = {f"{head}.{kind}" for head in HEAD_MODULES for kind in ("weight", "bias")}
FRAME_TOKENS = 9
"""The whole grid, which the stock model has too."""

PUBLISHED_CONFIG = {
    "architectures": ["SmolVLMForConditionalGeneration"],
    "image_token_id": 49190,
    "model_type": "smolvlm",
    "pad_token_id": 128002,
    "scale_factor": 4,
    "text_config": {
        "architectures": ["VLlama3ForCausalLM"],
        "head_dim": 64,
        "hidden_size": 960,
        "intermediate_size": 2560,
        "is_llama_config": True,
        "max_position_embeddings": 8192,
        "model_type": "llama",
        "neftune_noise_alpha": 0.0,
        "num_attention_heads": 15,
        "num_hidden_layers": 32,
        "num_key_value_heads": 5,
        "pad_token_id": 2,
        "pixel_shuffle_factor": 4,
        "qk_layer_norms": False,
        "rms_norm_eps": 1e-05,
        "rope_interleaved": False,
        "rope_theta": 100000,
        "torch_dtype": "bfloat16",
        "use_resampler": False,
        "vocab_size": 49280,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.47.1",
    "use_cache": False,
    "use_reentrant_checkpointing": False,
    "vision_config": {
        "hidden_size": 768,
        "image_size": 512,
        "max_image_size": {"longest_edge": 512},
        "model_type": "smolvlm_vision",
        "num_attention_heads": 12,
        "patch_size": 16,
        "size": {"longest_edge": 2048},
        "tie_word_embeddings": False,
        "use_base_siglip": False,
    },
    "vocab_size": 49280,
}
"""What the 500M on the hub says: an older transformers wrote it, with keys and a padding id that mean nothing now."""

PREPROCESSOR_CONFIG = {
    "do_image_splitting": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SmolVLMImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "max_image_size": {"longest_edge": 512},
    "processor_class": "SmolVLMProcessor",
    "resample": 1,
    "size": {"longest_edge": 2048},
    "video_sampling": {"fps": 1, "max_frames": 64},
}

OLDER_NAMES = {
    "model.language_model": lambda name: name.replace("model.text_model.", "model.language_model."),
    "language_model.model": lambda name: (
        f"language_model.{name}"
        if name.startswith("lm_head")
        else name.replace("model.text_model.", "language_model.model.")
        .replace("model.vision_model.", "vision_model.")
        .replace("model.connector.", "connector.")
    ),
}


def recipe(folder, mode="full", tokens=FRAME_TOKENS) -> Recipe:
    return Recipe.model_validate(
        {
            "model": {"name_or_path": str(folder), "tokens_per_frame": tokens},
            "finetune": {"mode": mode, "lora": {"rank": 4, "alpha": 8}},
            "train": {"precision": "fp32"},
        }
    )


def stock_model(tied=False, dtype=torch.float32) -> SmolVLMForConditionalGeneration:
    torch.manual_seed(0)
    config = tiny_config(tie_word_embeddings=tied)
    config.text_config.tie_word_embeddings = tied
    return SmolVLMForConditionalGeneration(config).to(dtype).eval()


def rewrite(source, folder, change):
    """The folder with another name for some weights, or without; all in one file."""
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    weights = {name: tensor for file in source.glob("*.safetensors") for name, tensor in load_file(file).items()}
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def renamed(weights, rename):
    return {rename(name): tensor for name, tensor in weights.items()}


@pytest.fixture
def stock(tmp_path):
    stock_model().save_pretrained(tmp_path / "stock")
    return tmp_path / "stock"


def assert_loaded_whole(model: SmolVLMForDST, stock: SmolVLMForConditionalGeneration):
    ours, theirs = model.state_dict(), stock.state_dict()
    assert ours.keys() - theirs.keys() == HEADS and not theirs.keys() - ours.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == torch.float32 and torch.equal(ours[name], tensor.float()), name


# Loading


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_of_a_stock_folder_is_loaded(tmp_path, tied, dtype, shards):
    stock = stock_model(tied, dtype)
    stock.save_pretrained(tmp_path, max_shard_size="20KB" if shards else "1GB")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 2) == shards
    model = load_model(recipe(tmp_path))
    assert_loaded_whole(model, stock)
    assert (model.lm_head.weight is model.model.text_model.embed_tokens.weight) == tied


@pytest.mark.parametrize("form", OLDER_NAMES)
def test_older_names_of_weights_are_known(stock, tmp_path, form):
    older = rewrite(stock, tmp_path / "older", lambda weights: renamed(weights, OLDER_NAMES[form]))
    assert not any("text_model" in name for name in load_file(older / "model.safetensors"))
    model = load_model(recipe(older))
    assert_loaded_whole(model, stock_model())
    save_model(model, model.state_dict(), tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == model.state_dict().keys()


def test_each_missing_and_each_unexpected_weight_is_named(stock, tmp_path):
    def other(weights):
        return renamed(weights, lambda name: name.replace("self_attn", "attention") if "text_model" in name else name)

    with pytest.raises(CheckpointError) as fault:
        load_model(recipe(rewrite(stock, tmp_path / "other", other)))
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
        load_model(recipe(lacking))


def test_a_backbone_without_language_head_is_refused(tmp_path):
    stock_model().model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="1 weights are missing: lm_head.weight"):
        load_model(recipe(tmp_path))


def test_a_backbone_with_a_tied_head_is_whole_and_saved_by_its_full_names(tmp_path):
    stock = stock_model(tied=True)
    stock.model.save_pretrained(tmp_path / "stock")
    model = load_model(recipe(tmp_path / "stock"))
    assert_loaded_whole(model, stock)
    save_model(model, model.state_dict(), tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == model.state_dict().keys() - {"lm_head.weight"}


def test_a_language_head_that_differs_is_kept_although_the_config_ties_it(tmp_path):
    stock_model(tied=True).save_pretrained(tmp_path / "tied")
    own = torch.full_like(stock_model().lm_head.weight, 0.5)
    folder = rewrite(tmp_path / "tied", tmp_path / "own", lambda weights: weights | {"lm_head.weight": own})
    model = load_model(recipe(folder))
    assert torch.equal(model.lm_head.weight, own)


# The published form


def test_the_published_config_gives_the_published_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    config = read_model_config(str(tmp_path))
    assert config.text_config.rope_parameters["rope_theta"] == 100000
    assert config.text_config.pad_token_id == 2 and not config.text_config.tie_word_embeddings
    with torch.device("meta"):
        model = SmolVLMForDST(config)
    own = sum(parameter.numel() for name, parameter in model.named_parameters() if name in HEADS)
    assert sum(parameter.numel() for parameter in model.parameters()) - own == 507_482_304


def published_folder(folder):
    """Tiny weights, and all the small files as on the hub."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = PUBLISHED_CONFIG["text_config"] | sizes | {"num_key_value_heads": 1, "head_dim": 8}
    vision = PUBLISHED_CONFIG["vision_config"] | sizes | {"image_size": 64, "patch_size": 8}
    values = PUBLISHED_CONFIG | {"text_config": text, "vision_config": vision}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    model = SmolVLMForConditionalGeneration(read_model_config(str(folder)))
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR_CONFIG))
    (folder / "processor_config.json").write_text(
        json.dumps({"image_seq_len": 64, "processor_class": "SmolVLMProcessor"})
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    write_published_tokenizer(folder)
    return model


def write_published_tokenizer(folder):
    """As on the hub: digits stand alone, and an older transformers named a class that splits otherwise."""
    make_tokenizer().save_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, words]}
    # A pair of digits as one token would show a tokenizer that does not split them.
    content["model"]["vocab"]["12"] = content["model"]["vocab"].pop("<|unused_40000|>")
    content["model"]["merges"] = [["1", "2"]]
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<|unused_40000|>"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    named = {"bos_token": NAMED_TOKENS[1], "eos_token": NAMED_TOKENS[49279], "pad_token": NAMED_TOKENS[2]}
    names = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
    }
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "processor_class": "SmolVLMProcessor",
        "truncation_side": "left",
        "unk_token": NAMED_TOKENS[0],
        "legacy": False,
        "add_prefix_space": False,
        "model_max_length": 8192,
        "extra_special_tokens": names,
        **names,
        **named,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_a_folder_as_on_the_hub_is_read_with_its_own_tokenizer(tmp_path):
    folder = tmp_path / "hub"
    stock = published_folder(folder)
    files = ModelFiles.read(recipe(folder, tokens=1))
    writer = TokenWriter(files.tokenizer, 1)
    assert (writer.image_id, writer.start_id, writer.end_id, writer.pad_id) == (49190, 1, 49279, 2)
    text = ' [{"id": "S12", "transition": "start"}]'
    whole = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    assert writer.turn("DST_UPDATE", text[1:]).body == [*whole, 49279]
    assert_loaded_whole(load_model(recipe(folder, tokens=1)), stock)


def in_hub_cache(source, cache):
    """The hub's cache, without internet, that holds a folder as `tiny/model`."""
    snapshot = cache / "models--tiny--model/snapshots/0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(source, snapshot)
    (cache / "models--tiny--model/refs").mkdir()
    (cache / "models--tiny--model/refs/main").write_text(snapshot.name)
    return "tiny/model"


PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "chat_template.json")


@pytest.mark.parametrize("place", ["folder", "hub cache"])
def test_the_stock_processor_is_taken_over_as_it_is(tmp_path, monkeypatch, place):
    published_folder(tmp_path / "hub")
    name = str(tmp_path / "hub")
    if place == "hub cache":
        name = in_hub_cache(tmp_path / "hub", tmp_path / "cache")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    final = tmp_path / "final"
    final.mkdir()
    ModelFiles.read(recipe(name, tokens=1)).save(final)
    for file in PROCESSOR_FILES:
        assert (final / file).read_bytes() == (tmp_path / "hub" / file).read_bytes()
    others = {path.name for path in final.iterdir()} - set(PROCESSOR_FILES)
    assert others == {"tokenizer.json", "tokenizer_config.json"}
    assert AutoImageProcessor.from_pretrained(final).to_dict() == AutoImageProcessor.from_pretrained(name).to_dict()


def test_the_stock_processor_opens_what_was_saved(tmp_path):
    for package in ("num2words", "torchvision"):
        pytest.importorskip(package, reason=f"the stock processor wants {package}: pip install {package}")
    published_folder(tmp_path / "hub")
    (tmp_path / "final").mkdir()
    ModelFiles.read(recipe(tmp_path / "hub", tokens=1)).save(tmp_path / "final")
    stock, ours = (AutoProcessor.from_pretrained(tmp_path / name) for name in ("hub", "final"))
    assert type(ours) is type(stock) and ours.image_seq_len == 64 and ours.chat_template == "{{ messages }}"
    image = Image.effect_noise((60, 40), 80).convert("RGB")
    read = [each(text="<image>Which?", images=[image], return_tensors="pt") for each in (stock, ours)]
    assert all(torch.equal(read[0][key], read[1][key]) for key in ("input_ids", "pixel_values"))


@pytest.mark.parametrize(
    "changes, warnings", [({}, 0), ({"resample": 1}, 0), ({"resample": 3}, 1), ({"image_mean": None}, 0)]
)
def test_another_resampling_is_warned_of(tmp_path, caplog, changes, warnings):
    published_folder(tmp_path / "hub")
    (tmp_path / "hub/preprocessor_config.json").write_text(json.dumps(PREPROCESSOR_CONFIG | changes))
    ModelFiles.read(recipe(tmp_path / "hub", tokens=1))
    said = [record.getMessage() for record in caplog.records if "preprocessor_config.json" in record.getMessage()]
    assert len(said) == warnings and all("resample 3, frames are resized with 1 (Lanczos)" in text for text in said)


def test_a_tokenizer_that_does_not_split_as_its_file_says_is_refused(tmp_path, monkeypatch):
    published_folder(tmp_path / "hub")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", GPT2Tokenizer.from_pretrained)
    with pytest.raises(ConfigError, match="as a GPT2Tokenizer, which splits text otherwise"):
        ModelFiles.read(recipe(tmp_path / "hub", tokens=1))


# What comes out opens in stock transformers


@torch.no_grad()
def logits_of(model, stock=False):
    """Of one text with two frames; the same ids and pixels either way."""
    frames, ids = random_frames(2), torch.tensor([1, *[60] * FRAME_TOKENS, 5, *[60] * FRAME_TOKENS, 6, 7])
    if stock:
        return model(input_ids=ids[None], pixel_values=(frames.float() / 127.5 - 1)[None]).logits[0]
    return model(ids, frames, [len(ids)], torch.arange(len(ids)), torch.tensor([9])).lm_logits


def trained(folder, mode):
    """A model with every trained weight moved, and the folder it was saved to."""
    model = load_model(recipe(folder, mode))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(model, model.state_dict(), folder.parent / mode)
    return model.eval(), folder.parent / mode


@pytest.mark.parametrize("tied", [False, True])
def test_a_full_model_opens_as_the_stock_model(tmp_path, tied):
    stock_model(tied).save_pretrained(tmp_path / "stock")
    before = logits_of(stock_model(tied), stock=True)
    model, folder = trained(tmp_path / "stock", "full")
    opened, info = SmolVLMForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and set(info["unexpected_keys"]) == HEADS
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
