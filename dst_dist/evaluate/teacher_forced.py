"""Evaluation with the gold history: loss terms, decisions, and updates that greedy decoding would write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from dst_dist import config
from dst_dist.data.batching import Draw, MicroBatchSpec, PackedBatch, micro_batches
from dst_dist.data.dataset import SampleDataset, make_loader
from dst_dist.data.samples import Limits
from dst_dist.evaluate.metrics import Metrics, decision_metrics
from dst_dist.model.losses import decision_loss
from dst_dist.model.smolvlm_dst import DSTOutput

HEADS = ("dst_update", "speaking")


@dataclass
class Readings:
    """What one process read off the model; arrays of micro-batches, joined by `joined`."""

    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, name: str, values: torch.Tensor) -> None:
        self.columns.setdefault(name, []).append(values.detach().cpu().numpy())

    def joined(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate(parts) for name, parts in self.columns.items()}


def spread(number: int, most: int | None) -> np.ndarray:
    """Positions 0 .. number - 1, or `most` of them, evenly spaced."""
    if most is None or most >= number:
        return np.arange(number)
    return np.unique(np.linspace(0, number - 1, most).round().astype(int))


def evaluation_specs(dataset: SampleDataset, limits: Limits, rank: int, num_processes: int, max_clips: int | None) -> list[MicroBatchSpec]:
    """Every sample once (of `max_clips` clips, evenly spaced), spread over processes; as many on each."""
    chosen = np.flatnonzero(np.isin(dataset.samples["clip"], spread(len(dataset.clips.index), max_clips)))
    draws = [Draw(int(index), 0) for index in chosen]
    return micro_batches(0, 0, draws, dataset.samples, limits, rank, num_processes)


@torch.no_grad()
def read_model(
    forward: Callable[[PackedBatch], DSTOutput], dataset: SampleDataset, specs: Sequence[MicroBatchSpec],
    device: torch.device, num_workers: int, should_stop: Callable[[], bool] = lambda: False, show_progress: bool = False,
) -> dict[str, np.ndarray] | None:  # fmt: skip
    """Run the model over micro-batches; one array a column, over all positions. None if it was to stop.

    Columns: `dst_update`, `speaking` (labels), `dst_update_logits`, `speaking_logits` [D, 2], `is_frame`;
    `lm_loss`, `lm_is_dst`, `lm_hit` a supervised token; `turn_hit`, `turn_is_dst` a supervised turn.
    """
    readings = Readings()
    loader = make_loader(dataset, specs, num_workers, device)
    for batch in tqdm(loader, total=len(specs), desc="evaluate", leave=False, disable=None if show_progress else True):
        if should_stop():
            return None
        batch = batch.to(device)
        batch.check()
        output = forward(batch)
        for head in HEADS:
            readings.add(head, getattr(batch, head))
            readings.add(f"{head}_logits", getattr(output, f"{head}_logits"))
        readings.add("is_frame", batch.decision_is_frame)
        logits = output.lm_logits.float()
        hit = logits.argmax(-1) == batch.lm_targets
        readings.add("lm_loss", F.cross_entropy(logits, batch.lm_targets, reduction="none"))
        readings.add("lm_is_dst", batch.lm_is_dst)
        readings.add("lm_hit", hit)
        turns, of_turn = batch.lm_turn.unique(return_inverse=True)
        misses = torch.zeros(len(turns), device=device).index_add_(0, of_turn, (~hit).float())
        is_dst = torch.zeros(len(turns), device=device).index_add_(0, of_turn, batch.lm_is_dst.float())
        readings.add("turn_hit", misses == 0)
        readings.add("turn_is_dst", is_dst > 0)
    return readings.joined()


def summarise(columns: dict[str, np.ndarray], recipe: config.Recipe, thresholds: dict[str, float | None]) -> Metrics:
    """Loss terms and metrics of a split from the readings of all processes.

    Args:
        thresholds: by head; None chooses the best on these readings.
    """
    metrics: Metrics = {}
    lm_loss, is_dst = columns["lm_loss"].astype(np.float64), columns["lm_is_dst"]
    metrics["loss/lm"] = float(lm_loss.mean()) if len(lm_loss) else 0.0
    metrics["loss/dst_gen"] = float(lm_loss[is_dst].mean()) if is_dst.any() else 0.0
    for head in HEADS:
        labels, logits = torch.from_numpy(columns[head]), torch.from_numpy(columns[f"{head}_logits"]).double()
        counts = [(labels == value).sum().double() for value in (1, 0)]
        metrics[f"loss/{head}"] = float(decision_loss(logits, labels, *counts, recipe.labels.balance))
    weights = recipe.loss.model_dump()
    metrics = {"loss": sum(weight * metrics[f"loss/{name}"] for name, weight in weights.items())} | metrics
    for head in HEADS:
        probabilities = torch.from_numpy(columns[f"{head}_logits"]).double().softmax(-1)[:, 1].numpy()
        metrics |= decision_metrics(head, columns[head], probabilities, columns["is_frame"], thresholds[head])
    if len(lm_loss):
        metrics["lm/perplexity"] = float(np.exp(lm_loss.mean()))
        metrics["lm/token_accuracy"] = float(columns["lm_hit"].mean())
    if columns["turn_is_dst"].any():
        metrics["update/exact_match"] = float(columns["turn_hit"][columns["turn_is_dst"]].mean())
        metrics["num_updates"] = float(columns["turn_is_dst"].sum())
    return metrics


def join_processes(gathered: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The readings of all processes, one after another."""
    return {name: np.concatenate([columns[name] for columns in gathered]) for name in gathered[0]}
