"""One optimizer step: forward and backward over its micro-batches, checks, one update."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dst_dist.config import Recipe
from dst_dist.data.batching import MicroBatchSpec, PackedBatch
from dst_dist.data.dataset import SampleDataset
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.losses import TERMS, Counts, NonFiniteError, compute_loss, weighted_sum
from dst_dist.model.memory_errors import memory_error_of_batch, memory_error_of_update
from dst_dist.model.smolvlm_dst import DSTOutput
from dst_dist.train.engine import Engine
from dst_dist.train.progress import Stopwatch


def step_batches(batches: Iterator[PackedBatch], watch: Stopwatch) -> Iterator[PackedBatch]:
    """Yield this process's micro-batches of one optimizer step."""
    while True:
        batch = watch.timed(batches)
        yield batch
        if batch.spec.is_last:
            return


def optimizer_step(
    engine: Engine, recipe: Recipe, data: SampleDataset, batches: Iterator[PackedBatch], counts: Counts
) -> dict[str, Any]:
    """Run forward and backward over a step's micro-batches, then one update; return what is logged (collective).

    Args:
        counts: of the whole global batch.

    Raises:
        NonFiniteError: before the update, on all processes, naming samples and loss term.
    """
    engine.model.train()
    shares, specs, num_placeholders = [], [], 0
    for batch in batches:
        batch.check()
        with memory_error_of_batch(data, batch):
            shares.append(micro_batch_shares(engine, recipe, batch, counts))
        specs.append(batch.spec)
        num_placeholders += batch.num_placeholders
    own_shares = torch.stack(shares).double()
    totals = engine.sum_over_processes(
        torch.cat([own_shares.sum(0), own_shares.new_tensor([num_placeholders])])
    ).tolist()
    if not all(math.isfinite(total) for total in totals):
        raise NonFiniteError(find_non_finite(engine, data, own_shares, specs))
    norm = engine.gradient_norm()
    if not math.isfinite(norm):
        names = ", ".join(filter(None, engine.gather_objects(data_names(data, specs))))
        raise NonFiniteError(f"step {specs[0].step + 1}: the gradient is not finite; the step's samples: {names}")
    with memory_error_of_update(specs[0].step):
        engine.step()
    return step_values(recipe, totals, counts, norm)


def micro_batch_shares(engine: Engine, recipe: Recipe, batch: PackedBatch, counts: Counts) -> torch.Tensor:
    """Run forward and backward of one micro-batch; return its share of each of TERMS (collective)."""
    engine.begin_micro_batch(batch.spec.is_last)
    output = forward(engine, recipe, batch := batch.to(engine.device))
    loss, terms = compute_loss(output, batch, counts, recipe.loss, recipe.labels.balance)
    # Engines average gradients over processes; what is wanted is their sum.
    engine.backward(loss * engine.num_processes)
    return torch.stack([terms[name] for name in TERMS])


def forward(engine: Engine, recipe: Recipe, batch: PackedBatch) -> DSTOutput:
    """Return the wrapped model's output; all processes call the tower equally often (collective)."""
    return engine.model(
        input_ids=batch.input_ids,
        frames=batch.frames,
        segment_lengths=batch.segment_lengths,
        lm_positions=batch.lm_positions,
        decision_positions=batch.decision_positions,
        min_vision_calls=math.ceil(batch.spec.round_frames / recipe.model.vision_batch_size),
    )


def find_non_finite(engine: Engine, data: SampleDataset, shares: torch.Tensor, specs: list[MicroBatchSpec]) -> str:
    """Return which term of which samples on which process is not finite (collective)."""
    own = [
        f"{name} of {data_names(data, [spec])} on process {engine.rank}"
        for share, spec in zip(shares, specs, strict=True)
        for name, value in zip(TERMS, share.tolist(), strict=True)
        if not math.isfinite(value)
    ]
    return f"step {specs[0].step + 1}: loss is not finite: " + "; ".join(sum(engine.gather_objects(own), []))


def data_names(data: SampleDataset, specs: list[MicroBatchSpec]) -> str:
    return ", ".join(data.sample_id(draw.sample) for spec in specs for draw in spec.draws)


def step_values(recipe: Recipe, totals: list[float], counts: Counts, norm: float) -> dict[str, Any]:
    """Return the loss terms (means over the global batch), class counts and gradient norm of a step."""
    terms = dict(zip(TERMS, totals, strict=False))
    values: dict[str, Any] = {"loss": weighted_sum(terms, recipe.loss)}
    values |= {f"loss/{name}": term for name, term in terms.items()}
    values["grad_norm"] = norm
    for head in HEAD_NAMES:
        values |= {f"num_{head}_{kind}": counts[f"{head}_{kind}"] for kind in ("positives", "negatives")}
    if totals[-1]:
        values["num_placeholder_frames"] = int(totals[-1])
    return values


def sizes(data: SampleDataset, samples: list[int], watch: Stopwatch) -> dict[str, Any]:
    """Return size and speed of a step over all processes; the share of waiting is this process's."""
    table, elapsed_s = data.samples[np.array(samples)], watch.elapsed_s
    tokens, frames = int(table["tokens"].sum()), int(table["frames"].sum())
    return {
        "num_samples": len(samples),
        "num_tokens": tokens,
        "num_frames": frames,
        "max_seq_len": int(table["tokens"].max()),
        "tokens_per_s": tokens / elapsed_s,
        "frames_per_s": frames / elapsed_s,
        "data_wait_share": watch.waited_s / elapsed_s,
    }
