"""Tiny random models of SmolVLM2's true architecture, and micro-batches for them."""

from types import SimpleNamespace

import torch
from transformers import LlamaConfig, SmolVLMConfig, SmolVLMVisionConfig

from dst_dist.data.batching import PackedBatch
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.frame_pooling import frame_grid
from dst_dist.model.smolvlm_dst import SmolVLMForDST

IMAGE_TOKEN = 60
PAD = 2


def tiny_config(image_size=48, patch_size=8, scale_factor=2, kv_heads=2, **settings) -> SmolVLMConfig:
    """Grid 3x3 by default; pixel shuffle, grouped keys and values, an untied language head."""
    config = SmolVLMConfig(
        text_config=LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            vocab_size=64,
            max_position_embeddings=512,
            pad_token_id=PAD,
            bos_token_id=1,
            eos_token_id=3,
            initializer_range=0.1,
        ),
        vision_config=SmolVLMVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=image_size,
            patch_size=patch_size,
            initializer_range=0.1,
        ),
        scale_factor=scale_factor,
        image_token_id=IMAGE_TOKEN,
        pad_token_id=PAD,
        tie_word_embeddings=False,
    )
    for key, value in settings.items():
        setattr(config, key, value)
    return config


def tiny_model(seed=0, **settings) -> SmolVLMForDST:
    torch.manual_seed(seed)
    return with_random_heads(SmolVLMForDST(tiny_config(**settings)).eval())


@torch.no_grad()
def with_random_heads(model: SmolVLMForDST) -> SmolVLMForDST:
    """Return the model with heads that decide differently at each position; new ones are zero."""
    for module in HEAD_MODULES:
        torch.nn.init.xavier_uniform_(getattr(model, module).weight)
    return model


def random_frames(count: int, size: int = 48, seed: int = 0) -> torch.Tensor:
    """uint8 [count, 3, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def sample(config, num_frames: int, seed: int, text_before=4, text_after=5) -> dict:
    """Return one sample: text, frames, text; supervised after the frames, decided at each frame."""
    generator = torch.Generator().manual_seed(seed)
    per_frame = getattr(config, "tokens_per_frame", None) or frame_grid(config) ** 2
    text = torch.randint(4, IMAGE_TOKEN, (text_before + text_after,), generator=generator)
    images = torch.full((num_frames * per_frame,), IMAGE_TOKEN)
    first = text_before + len(images)
    return {
        "input_ids": torch.cat([text[:text_before], images, text[text_before:]]),
        "frames": random_frames(num_frames, config.vision_config.image_size, seed),
        "lm_positions": torch.arange(first, first + text_after - 1),
        "lm_targets": text[text_before + 1 :],
        "lm_is_dst": torch.arange(text_after - 1) < 2,
        "decision_positions": text_before - 1 + per_frame * torch.arange(1, num_frames + 1),
        "decisions": {"dst_update": torch.arange(num_frames) % 2, "speaking": (torch.arange(num_frames) + 1) % 2},
    }


def pack(samples: list[dict]) -> SimpleNamespace:
    """Pack samples in one row, with the fields of a PackedBatch."""
    lengths = [len(item["input_ids"]) for item in samples]
    starts = [sum(lengths[:index]) for index in range(len(samples))]
    fields = {key: torch.cat([item[key] for item in samples]) for key in samples[0] if key != "decisions"}
    fields["decisions"] = {
        head: torch.cat([item["decisions"][head] for item in samples]) for head in samples[0]["decisions"]
    }
    for key in ("lm_positions", "decision_positions"):
        fields[key] = torch.cat([item[key] + start for item, start in zip(samples, starts, strict=True)])
    return SimpleNamespace(segment_lengths=lengths, **fields)


def inputs(batch) -> dict:
    """Return the keyword arguments of SmolVLMForDST.forward."""
    names = ("input_ids", "frames", "segment_lengths", "lm_positions", "decision_positions")
    return {name: getattr(batch, name) for name in names}


def count_terms(batch: PackedBatch) -> dict[str, int]:
    """Count the positions of a micro-batch by COUNT_NAMES, from its labels."""
    counts = {"lm": len(batch.lm_targets), "dst_gen": int(batch.lm_is_dst.sum())}
    for head, labels in batch.decisions.items():
        counts |= {f"{head}_positives": int((labels == 1).sum()), f"{head}_negatives": int((labels == 0).sum())}
    return counts
