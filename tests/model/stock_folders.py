"""Stock model folders as transformers and the hub have them, and what tests do to them."""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import SmolVLMForConditionalGeneration

from dst_dist.config import Recipe
from dst_dist.model.loading import load_model
from dst_dist.model.model_config import read_model_config
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import HEAD_WEIGHTS, SmolVLMForDST
from tests.gpu.make_models import NAMED_TOKENS, make_tokenizer
from tests.model.finetuning import recipe
from tests.model.tiny import random_frames, tiny_config

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
"""The config of the 500M on the hub, with keys and a padding id of an older transformers that mean nothing now."""


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


def whole_grid_recipe(folder, mode="full", tokens=FRAME_TOKENS) -> Recipe:
    return recipe(folder, mode, tokens=tokens)


def stock_model(tied=False, dtype=torch.float32) -> SmolVLMForConditionalGeneration:
    torch.manual_seed(0)
    config = tiny_config(tie_word_embeddings=tied)
    config.text_config.tie_word_embeddings = tied
    return SmolVLMForConditionalGeneration(config).to(dtype).eval()


def changed_copy(stock, tmp_path, change):
    """Return a copy of the stock folder whose weights went through `change`."""
    folder = tmp_path / "changed"
    shutil.copytree(stock, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def rewrite(source, folder, change):
    """Return a new folder with the weights that `change` returns, all in one file."""
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    weights = {name: tensor for file in source.glob("*.safetensors") for name, tensor in load_file(file).items()}
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def renamed(weights, rename):
    return {rename(name): tensor for name, tensor in weights.items()}


def assert_loaded_whole(model: SmolVLMForDST, stock: SmolVLMForConditionalGeneration):
    ours, theirs = model.state_dict(), stock.state_dict()
    assert ours.keys() - theirs.keys() == HEAD_WEIGHTS and not theirs.keys() - ours.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == torch.float32 and torch.equal(ours[name], tensor.float()), name


def published_folder(folder):
    """Write tiny weights, and all the small files as on the hub; return the stock model."""
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
    """Write a tokenizer as on the hub: it splits digits, and an older transformers named a class that does not."""
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


@torch.no_grad()
def logits_of(model, stock=False):
    """Return the logits of one text with two frames, from the same ids and pixels for our model and the stock model."""
    frames, ids = random_frames(2), torch.tensor([1, *[60] * FRAME_TOKENS, 5, *[60] * FRAME_TOKENS, 6, 7])
    if stock:
        return model(input_ids=ids[None], pixel_values=(frames.float() / 127.5 - 1)[None]).logits[0]
    return model(ids, frames, [len(ids)], torch.arange(len(ids)), torch.tensor([9])).lm_logits


def trained(folder, mode):
    """Return a model with every trained weight moved, and the folder it was saved to."""
    model = load_model(whole_grid_recipe(folder, mode))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(model, model.state_dict(), folder.parent / mode)
    return model.eval(), folder.parent / mode
