"""Adds to errors of running out of memory the micro-batch, and the recipe keys to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dst_dist.data.batching import PackedBatch
from dst_dist.data.dataset import SampleDataset


@contextmanager
def memory_error_of_batch(data: SampleDataset, batch: PackedBatch) -> Iterator[None]:
    """Run a block on one micro-batch. Raises RuntimeError with its size and samples if the device's memory runs out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        names = ", ".join(data.sample_id(draw.sample) for draw in batch.spec.draws)
        raise RuntimeError(
            f"step {batch.spec.step + 1}: out of memory in a micro-batch of {len(batch.spec.draws)} samples, "
            f"{len(batch.input_ids)} tokens and {len(batch.frames)} frames ({names}): lower train.max_tokens, "
            "train.max_frames or model.vision_batch_size, or set train.gradient_checkpointing to true; "
            f"a continued run may have these changed, down to its longest sample. {error}"
        ) from error


@contextmanager
def memory_error_of_update(step: int) -> Iterator[None]:
    """Run a block that updates the weights in optimizer step `step`, from 0. Raises RuntimeError if memory runs out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"step {step + 1}: out of memory in the update, which needs 8 bytes for each trained parameter: "
            "spread it over more processes (launch/zero2.yaml, launch/fsdp.yaml), keep it in host memory "
            f"(launch/zero2_offload.yaml), or train less (finetune.mode, finetune.train, finetune.lora.rank). {error}"
        ) from error
