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


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `texts`, with SmolVLM2's special tokens.

    Headers, newlines and digits stand alone, so that a turn tokenized apart gives the ids that it has
    within the whole. An update's JSON is cut at a step's digit and behind a transition only: a step, what
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
        tokenizer_object=_without_spelling(tokenizer),
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        extra_special_tokens=["<global-img>", "<fake_token_around_image>", IMAGE],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_SEQ_LEN,
    )


def _without_spelling(tokenizer: Tokenizer) -> Tokenizer:
    """Without the merges that end in a special token, which its texts held: "<image>" that somebody writes is no image."""
    content = json.loads(tokenizer.to_str())
    content["model"]["merges"] = [pair for pair in content["model"]["merges"] if "".join(pair) not in SPECIAL_TOKENS]
    return Tokenizer.from_str(json.dumps(content))


def tiny_config(tokenizer: PreTrainedTokenizerFast, scale_factor: int = 3) -> SmolVLMConfig:
    """48 px in patches of 16, pixel shuffle by 3: one true token a frame; about 1.2M parameters.

    A scale factor of 1 leaves a grid of 3 x 3 tokens.

    The initializer range of 0.06 suits the width: 0.02, made for wide models, learns at half the speed.
    """
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": MAX_SEQ_LEN,
        "initializer_range": 0.06,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
        **ids,
    }
    vision = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": FRAME_SIZE,
        "patch_size": 16,
        "initializer_range": 0.06,
    }
    return SmolVLMConfig(
        text_config=text,
        vision_config=vision,
        scale_factor=scale_factor,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=False,
        dtype="float32",
        **ids,
    )


def write_model(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int, scale_factor: int = 3) -> None:
    """Write a randomly initialised tiny model and its tokenizer as a Hugging Face folder.

    The caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SmolVLMForConditionalGeneration(tiny_config(tokenizer, scale_factor))
    model.generation_config = GenerationConfig.from_model_config(model.config.text_config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
