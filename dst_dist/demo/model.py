"""The demo's tiny SmolVLM2: the true architecture and special tokens at a size that two CPU cores can train."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMForConditionalGeneration

from dst_dist.demo.dialog import BOS, EOS, IMAGE, MAX_SEQ_LEN
from dst_dist.demo.painter import FRAME_SIZE

PAD, UNK = "<|im_end|>", "<|endoftext|>"
SPECIAL_TOKENS = [UNK, BOS, PAD, "<global-img>", "<fake_token_around_image>", IMAGE, EOS]
VOCAB_SIZE = 768
INITIALIZER_RANGE = 0.06
"""It suits the small width: 0.02, made for wide models, learns at half the speed."""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`, with SmolVLM2's special tokens.

    Headers, newlines and digits are tokens of their own, so that a turn tokenized apart gives the ids that it has
    within the whole. An update's JSON is cut at a step's digit and after a transition only: a step, what
    happens to it, and whether another follows are then one choice each, not a spelling.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split(Regex("^(System|User|Assistant|DST):"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r" (?=[a-z\[])"), "merged_with_next"),
            pre_tokenizers.Split("}", "merged_with_previous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=_without_spelled_specials(tokenizer),
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        extra_special_tokens=["<global-img>", "<fake_token_around_image>", IMAGE],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_SEQ_LEN,
    )


def _without_spelled_specials(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer without merges that end in a special token: "<image>" typed by a user is no image.

    The texts it was trained on hold special tokens, so it has learned to spell them.
    """
    content = json.loads(tokenizer.to_str())
    content["model"]["merges"] = [pair for pair in content["model"]["merges"] if "".join(pair) not in SPECIAL_TOKENS]
    return Tokenizer.from_str(json.dumps(content))


def write_model(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int, scale_factor: int = 3) -> None:
    """Write a randomly initialised tiny model and its tokenizer as a Hugging Face folder.

    The caller's random state is left as it was.

    Args:
        scale_factor: of the connector's pixel shuffle. 3 gives one token per frame, 1 a grid of 3 x 3 tokens.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SmolVLMForConditionalGeneration(_tiny_config(tokenizer, scale_factor))
    model.generation_config = GenerationConfig.from_model_config(model.config.text_config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tiny_config(tokenizer: PreTrainedTokenizerFast, scale_factor: int) -> SmolVLMConfig:
    """Return a config of about 1.3M parameters; frames of 48 px in patches of 16."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_SEQ_LEN,
        "initializer_range": INITIALIZER_RANGE,
        "tie_word_embeddings": False,
    }
    vision = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": FRAME_SIZE,
        "patch_size": 16,
        "initializer_range": INITIALIZER_RANGE,
    }
    return SmolVLMConfig(
        text_config=text | ids,
        vision_config=vision,
        scale_factor=scale_factor,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=False,
        dtype="float32",
        **ids,
    )
