"""Write SmolVLM2 at its true shapes with random weights, a tokenizer of the true vocabulary, and clips for them.

Nothing is downloaded. Everything follows from fixed seeds.
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMForConditionalGeneration

from dst_dist.data.frames import write_frames

VOCABULARY = 49280
NAMED_TOKENS = {
    0: "<|endoftext|>",
    1: "<|im_start|>",
    2: "<|im_end|>",
    49152: "<global-img>",
    49189: "<fake_token_around_image>",
    49190: "<image>",
    49279: "<end_of_utterance>",
}
FRAMES_PER_EVENT = 8
VAL_CLIPS = 2


@dataclass(frozen=True)
class Shape:
    """A model's sizes, and how much data its rows of the table train on.

    Args:
        tokens_per_frame: K; its side divides the grid.
        clips: training clips, all of which make one optimizer step.
        max_tokens, max_frames: of a micro-batch, so that a step has two or more.
    """

    text: dict
    vision: dict
    scale_factor: int
    tokens_per_frame: int
    parameters: int
    clips: int = 8
    frames_per_clip: int = 64
    max_tokens: int = 6144
    max_frames: int = 256
    initializer: dict = field(default_factory=dict)

    def config(self) -> SmolVLMConfig:
        """Return the configuration, with an untied language head and the published token ids."""
        ids = {"pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 49279}
        text = {
            "model_type": "llama",
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": False,
            **ids,
            **self.text,
            **self.initializer,
        }
        return SmolVLMConfig(
            text_config=text,
            vision_config={**self.vision, **self.initializer},
            scale_factor=self.scale_factor,
            image_token_id=49190,
            tie_word_embeddings=False,
            **ids,
        )


SMALL_TOWER = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
"""The vision tower of 256M and 500M."""
SHAPES = {
    "2.2B": Shape(
        text=dict(
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=24,
            num_attention_heads=32,
            num_key_value_heads=32,
        ),
        vision=dict(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,
            num_attention_heads=16,
            image_size=384,
            patch_size=14,
        ),
        scale_factor=3,
        tokens_per_frame=9,
        parameters=2_246_784_880,
    ),
    "256M": Shape(
        text=dict(
            hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3
        ),
        vision=SMALL_TOWER,
        scale_factor=4,
        tokens_per_frame=16,
        parameters=256_484_928,
    ),
    "500M": Shape(
        text=dict(
            hidden_size=960, intermediate_size=2560, num_hidden_layers=32, num_attention_heads=15, num_key_value_heads=5
        ),
        vision=SMALL_TOWER,
        scale_factor=4,
        tokens_per_frame=16,
        parameters=507_482_304,
    ),
    # To try the script itself without a GPU.
    "tiny": Shape(
        text=dict(
            hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
        ),
        vision=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
        ),
        scale_factor=2,
        tokens_per_frame=4,
        parameters=6_417_984,
        clips=4,
        frames_per_clip=16,
        max_tokens=1536,
        max_frames=32,
        initializer=dict(initializer_range=0.06),
    ),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes and unused tokens, with SmolVLM2's vocabulary size and special token ids."""
    tokens = dict(NAMED_TOKENS)
    free = (number for number in range(VOCABULARY) if number not in NAMED_TOKENS)
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        tokens[next(free)] = byte
    for number in free:
        tokens[number] = f"<|unused_{number}|>"
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in sorted(tokens.items())}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=NAMED_TOKENS[1],
        eos_token=NAMED_TOKENS[49279],
        pad_token=NAMED_TOKENS[2],
        unk_token=NAMED_TOKENS[0],
        extra_special_tokens=[NAMED_TOKENS[number] for number in (49152, 49189, 49190)],
    )


def write_model(folder: Path, shape: Shape, device: str) -> None:
    """Write a stock Hugging Face folder with weights drawn on `device`, in bfloat16 to write half the bytes."""
    torch.manual_seed(0)
    with torch.device(device):
        model = SmolVLMForConditionalGeneration(shape.config()).to(torch.bfloat16)
    model.generation_config = GenerationConfig.from_model_config(model.config.text_config)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


def write_clips(root: Path, shape: Shape) -> None:
    """Write dataset `synthetic` below `root`: splits `train` and `val`, JPEG frames of the tower's size."""
    for split, clips in (("train", shape.clips), ("val", VAL_CLIPS)):
        size, total = shape.vision["image_size"], clips * shape.frames_per_clip
        frames_file = f"synthetic/frames/{split}.arrow"
        write_frames(root / frames_file, [_jpeg(number, size) for number in range(total)])
        made = [_clip(split, number, frames_file, shape.frames_per_clip) for number in range(clips)]
        (root / "synthetic" / f"{split}_training.json").write_text(json.dumps(made))


def _jpeg(number: int, size: int) -> bytes:
    blocks = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize((size, size), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _clip(split: str, number: int, frames_file: str, num_frames: int) -> dict:
    """Return a clip in which every few frames a step ends, the next one begins, and a reply follows."""
    start = number * num_frames
    events = range(start + FRAMES_PER_EVENT - 1, start + num_frames, FRAMES_PER_EVENT)
    turns = [{"role": "system", "content": "You watch the work and keep track of its steps."}]
    for index, frame in enumerate(events):
        where = {"start_frame": frame, "end_frame": frame + 1, "time": frame / 2}
        done = [{"id": f"S{index}", "transition": "complete"}] if index else []
        update = [*done, {"id": f"S{index + 1}", "transition": "start"}]
        turns.append({"role": "DST_UPDATE", "content": update, **where})
        turns.append({"role": "assistant", "content": f"Now go on with part {index + 1}.", **where})
    steps = [{"type": "step", "id": f"S{index + 1}", "name": f"Fit part {index + 1}"} for index in range(len(events))]
    return {
        "id": f"{split}-{number}",
        "video_uid": split,
        "inferred_goal": "Build it",
        "conversation": turns,
        "dst": steps,
        "frames_file": frames_file,
        "start_frame_idx": start,
        "end_frame_idx": start + num_frames,
        "dataset": "synthetic",
        "clip_idx": number,
        "fps": 2,
    }
