"""Runs one optimizer step: forward and backward over its micro-batches, checks, one update."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dst_dist.config import Recipe
from dst_dist.data.batching import MicroBatchSpec, PackedBatch
from dst_dist.data.dataset import SampleDataset
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.compiling import compile_error_named
from dst_dist.model.losses import TERMS, Counts, NonFiniteError, compute_loss, weighted_sum
from dst_dist.model.memory_errors import memory_error_of_batch, memory_error_of_update
from dst_dist.model.operations import Costs, Operations
from dst_dist.model.smolvlm_dst import DSTOutput
from dst_dist.plan.micro_batches import shape_of
from dst_dist.train.engine import Engine


class Stopwatch:
    """The time of an optimizer step so far, and the part of it spent waiting for data, in seconds."""

    def __init__(self):
        self.started_s, self.waited_s = time.perf_counter(), 0.0

    def step_batches(self, batches: Iterator[PackedBatch]) -> Iterator[PackedBatch]:
        """Yield this process's micro-batches of the step."""
        is_last = False
        while not is_last:
            before = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - before
            is_last = batch.spec.is_last
            yield batch


def optimizer_step(
    engine: Engine, recipe: Recipe, data: SampleDataset, batches: Iterator[PackedBatch], counts: Counts
) -> dict[str, Any]:
    """Run forward and backward over a step's micro-batches, then one update; return the values to log (collective).

    Raises:
        NonFiniteError: before the update, on all processes, naming samples and, for a loss, the term.
    """
    engine.model.train()
    shares, specs, num_placeholders = [], [], 0
    for batch in batches:
        batch.check()
        with memory_error_of_batch(data, batch), compile_error_named():
            shares.append(micro_batch_shares(engine, recipe, batch, counts))
        specs.append(batch.spec)
        num_placeholders += batch.num_placeholders
    own_shares = torch.stack(shares).double()
    own_sums = torch.cat([own_shares.sum(0), own_shares.new_tensor([num_placeholders])])
    totals = engine.sum_over_processes(own_sums).tolist()
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
    batch = batch.to(engine.device)
    output = forward(engine, recipe, batch)
    loss, terms = compute_loss(output, batch, counts, recipe.loss, recipe.labels.balance)
    # Engines average gradients over processes; the sum is needed.
    engine.backward(loss * engine.num_processes)
    return torch.stack([terms[name] for name in TERMS])


def forward(engine: Engine, recipe: Recipe, batch: PackedBatch) -> DSTOutput:
    """Run the wrapped model on one micro-batch; all processes call the vision tower equally often (collective)."""
    return engine.model(
        input_ids=batch.input_ids,
        frames=batch.frames,
        segment_lengths=batch.segment_lengths,
        lm_positions=batch.lm_positions,
        decision_positions=batch.decision_positions,
        min_vision_calls=math.ceil(batch.spec.round_frames / recipe.model.vision_batch_size),
    )


def find_non_finite(engine: Engine, data: SampleDataset, shares: torch.Tensor, specs: list[MicroBatchSpec]) -> str:
    """Return a message with the terms, samples and processes that are not finite (collective)."""
    own = [
        f"{name} of {data_names(data, [spec])} on process {engine.rank}"
        for share, spec in zip(shares, specs, strict=True)
        for name, value in zip(TERMS, share.tolist(), strict=True)
        if not math.isfinite(value)
    ]
    return f"step {specs[0].step + 1}: loss is not finite: " + "; ".join(sum(engine.gather_objects(own), []))


def data_names(data: SampleDataset, specs: list[MicroBatchSpec]) -> str:
    """Return the ids of the samples of micro-batches."""
    return ", ".join(data.sample_id(draw.sample) for spec in specs for draw in spec.draws)


def step_values(recipe: Recipe, totals: list[float], counts: Counts, norm: float) -> dict[str, Any]:
    """Return a step's loss terms (means over the global batch), class counts and gradient norm.

    Args:
        totals: the terms in order of TERMS, then the number of placeholder frames.
    """
    terms = dict(zip(TERMS, totals, strict=False))
    values: dict[str, Any] = {"loss": weighted_sum(terms, recipe.loss)}
    values |= {f"loss/{name}": term for name, term in terms.items()}
    values["grad_norm"] = norm
    for head in HEAD_NAMES:
        values |= {f"num_{head}_{kind}": counts[f"{head}_{kind}"] for kind in ("positives", "negatives")}
    if totals[-1]:
        values["num_placeholder_frames"] = int(totals[-1])
    return values


def sizes(
    data: SampleDataset, samples: list[int], watch: Stopwatch, costs: Costs, peak: float | None = None
) -> dict[str, Any]:
    """Return size and speed of a step over all processes; the wait for data is this process's.

    Args:
        peak: operations a second of all devices together; without it there is no `mfu`.
    """
    table, elapsed_s = data.samples[np.array(samples)], time.perf_counter() - watch.started_s
    tokens, frames = int(table["tokens"].sum()), int(table["frames"].sum())
    values = {
        "num_samples": len(samples),
        "num_tokens": tokens,
        "num_frames": frames,
        "max_seq_len": int(table["tokens"].max()),
        "tokens_per_s": tokens / elapsed_s,
        "frames_per_s": frames / elapsed_s,
        "data_wait_share": watch.waited_s / elapsed_s,
    }
    if peak is not None:
        values["mfu"] = operations_of(table, costs).total / elapsed_s / peak
    return values


def operations_of(table: np.ndarray, costs: Costs) -> Operations:
    """Return the operations of samples, given by their rows of the table."""
    shape = shape_of(table)
    return costs.of(shape.segment_lengths, shape.num_frames, shape.num_lm, shape.num_decisions)
