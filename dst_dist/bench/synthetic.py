"""Samples of random tokens and frames that fill micro-batches to their limits, for a recipe without its data."""

import numpy as np
import torch

from dst_dist.config import Recipe
from dst_dist.data.batching import CACHED_FRAME_COST, ENCODED_FRAME_COST, Draw, MicroBatchSpec, PackedBatch, collate
from dst_dist.data.conversation import IGNORE
from dst_dist.data.cutting import SAMPLE_DTYPE
from dst_dist.data.samples import COUNT_NAMES, Sample
from dst_dist.errors import ConfigError
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.model_files import ModelFiles
from dst_dist.model.smolvlm_dst import SmolVLMForDST

SUPERVISED_SHARE = 0.5
"""Share of the text tokens; half of these are of updates."""
POSITIVE_SHARE = 0.1
"""Share of the frames, for each head."""


class SyntheticDataset(torch.utils.data.Dataset):
    """Samples of one size, with the methods of `SampleDataset` that training needs; an epoch is one optimizer step.

    A sample is its frames, then text whose end is supervised; every frame is a decision position. At least a quarter of
    the tokens is text. The sizes of a recipe's samples are unknown without its data, so a micro-batch holds
    `train.max_tokens` tokens and, if they fit in three quarters of these, `train.max_frames` frames.

    Raises:
        ConfigError: if `train.max_tokens` is `auto`.
    """

    def __init__(self, recipe: Recipe, files: ModelFiles):
        train, most = recipe.train, min(recipe.data.max_seq_len, files.max_positions)
        if train.max_tokens == "auto":
            raise ConfigError("train.max_tokens: auto needs real data; give a number with --synthetic")
        together = -(-train.max_tokens // most)
        self.num_tokens = train.max_tokens // together
        self.per_frame, config = recipe.model.tokens_per_frame, files.config
        self.num_frames = min(train.max_frames // together, self.num_tokens * 3 // 4 // self.per_frame)
        num_text = self.num_tokens - self.num_frames * self.per_frame
        self.num_lm = int(SUPERVISED_SHARE * num_text)
        self.num_positives = int(POSITIVE_SHARE * self.num_frames)
        self.vocab_size, self.image_id = config.text_config.vocab_size, config.image_token_id
        self.frame_cost = ENCODED_FRAME_COST if recipe.data.feature_cache is None else CACHED_FRAME_COST
        self.samples = np.zeros(train.global_batch_size, dtype=SAMPLE_DTYPE)
        counts = {"lm": self.num_lm, "dst_gen": self.num_lm // 2}
        for head in HEAD_NAMES:
            counts |= {f"{head}_positives": self.num_positives}
            counts |= {f"{head}_negatives": self.num_frames - self.num_positives}
        for name, value in {"tokens": self.num_tokens, "frames": self.num_frames, **counts}.items():
            self.samples[name] = value
        self.weights = np.ones(len(self.samples), dtype=np.int64)
        self.fingerprint = "0" * 16

    def fit_to(self, model: SmolVLMForDST, recipe: Recipe) -> None:
        """Make the picture that every frame shows, or with `data.feature_cache` its features."""
        generator, size = torch.Generator().manual_seed(0), model.config.vision_config.image_size
        if recipe.data.feature_cache is None:
            self.frame = torch.randint(256, (3, size, size), dtype=torch.uint8, generator=generator)
        else:
            shape = model.patch_shape if recipe.finetune.train.connector else model.embedding_shape
            self.frame = torch.randn(shape, generator=generator).to(model.compute_dtype or torch.float32)

    def counts(self, draws: list[Draw], epoch: int) -> dict[str, int]:
        """Return the counted positions of some draws by COUNT_NAMES."""
        return {name: int(self.samples[name][: len(draws)].sum()) for name in COUNT_NAMES}

    def sample_id(self, index: int) -> str:
        """Return a name for messages."""
        return f"synthetic {index}"

    def __getitem__(self, spec: MicroBatchSpec) -> PackedBatch:
        """Return a micro-batch of random tokens."""
        samples = [self._sample(draw.sample + spec.step * len(self.samples)) for draw in spec.draws]
        frames = self.frame.expand(self.num_frames * len(samples), *self.frame.shape).contiguous()
        return collate(samples, spec, frames, pad_id=0)

    def _sample(self, seed: int) -> Sample:
        random, frames = np.random.default_rng(seed), np.arange(self.num_frames)
        ids = random.integers(self.vocab_size - 1, size=self.num_tokens)
        # Every id but the image token's.
        ids += ids >= self.image_id
        ids[: self.num_frames * self.per_frame] = self.image_id
        labels = np.full(self.num_tokens, IGNORE)
        labels[self.num_tokens - self.num_lm :] = ids[self.num_tokens - self.num_lm :]
        is_dst = np.arange(self.num_tokens) >= self.num_tokens - self.num_lm // 2
        positive = (frames < self.num_positives).astype(np.int64)
        return Sample(
            input_ids=ids,
            labels=labels,
            is_dst=is_dst,
            turn=np.where(labels == IGNORE, -1, 0),
            frames=frames,
            decision_positions=(frames + 1) * self.per_frame - 1,
            decision_frames=frames,
            decision_is_frame=np.ones(self.num_frames, dtype=bool),
            decisions={head: positive for head in HEAD_NAMES},
        )
