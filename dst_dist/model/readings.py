"""Run a model over a split with the gold history, and keep its losses, logits and hits in one array a quantity."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from dst_dist.config import Recipe
from dst_dist.data.batching import Draw, MicroBatchSpec, PackedBatch, micro_batches
from dst_dist.data.dataset import SampleDataset, make_loader
from dst_dist.data.samples import Limits
from dst_dist.data.workers import Asked
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.losses import NonFiniteError, Positions, loss_terms, weighted_sum
from dst_dist.model.memory_errors import memory_error_of_batch
from dst_dist.model.smolvlm_dst import DSTOutput


def spread(number: int, most: int | None) -> np.ndarray:
    """Return the positions 0 .. number - 1, or `most` of them, evenly spaced."""
    if most is None or most >= number:
        return np.arange(number)
    return np.unique(np.linspace(0, number - 1, most).round().astype(int))


def evaluation_specs(
    dataset: SampleDataset, limits: Limits, rank: int, num_processes: int, max_clips: int | None
) -> list[MicroBatchSpec]:
    """Return this process's micro-batches of a split, as many as every other's.

    Each sample is read once, or each sample of `max_clips` clips, evenly spaced.
    """
    chosen = np.flatnonzero(np.isin(dataset.samples["clip"], spread(len(dataset.clips.index), max_clips)))
    draws = [Draw(int(index), 0) for index in chosen]
    return micro_batches(0, 0, draws, dataset.samples, limits, rank, num_processes, dataset.frame_cost)


Watched = Callable[[Iterator[PackedBatch]], Iterator[PackedBatch]]


@torch.no_grad()
def read_model(
    forward: Callable[[PackedBatch], DSTOutput],
    dataset: SampleDataset,
    specs: Sequence[MicroBatchSpec],
    device: torch.device,
    num_workers: Asked,
    should_stop: Callable[[], bool] = lambda: False,
    show_progress: bool = False,
    watched: Watched = iter,
) -> dict[str, np.ndarray] | None:
    """Run the model over micro-batches; return one array a column, over all positions, or None if asked to stop.

    Columns: `dst_update`, `speaking` (labels), `dst_update_logits`, `speaking_logits` [D, 2], `is_frame`;
    `lm_loss`, `lm_is_dst`, `lm_hit` a supervised token; `turn_hit`, `turn_is_dst` a supervised turn; and `clip`,
    `lm_clip`, `turn_clip`, the positions of their clips in the split.

    Args:
        watched: passes an iterator's items on, and knows when this process waits for one.
    """
    parts = []
    loader = watched(make_loader(dataset, specs, num_workers, device))
    for batch in tqdm(loader, total=len(specs), desc="evaluate", leave=False, disable=None if show_progress else True):
        if should_stop():
            return None
        batch = batch.to(device)
        batch.check()
        with memory_error_of_batch(dataset, batch):
            columns = _read_batch(batch, forward(batch), dataset)
        parts.append({name: values.cpu().numpy() for name, values in columns.items()})
    return join_readings(parts)


def _read_batch(batch: PackedBatch, output: DSTOutput, dataset: SampleDataset) -> dict[str, torch.Tensor]:
    """Return a micro-batch's columns, as `read_model` describes them."""
    logits = output.lm_logits.float()
    hit = logits.argmax(-1) == batch.lm_targets
    lm_clip = _clip_of(batch, batch.lm_positions, dataset)
    columns = {
        "is_frame": batch.decision_is_frame,
        "clip": _clip_of(batch, batch.decision_positions, dataset),
        "lm_loss": F.cross_entropy(logits, batch.lm_targets, reduction="none"),
        "lm_is_dst": batch.lm_is_dst,
        "lm_hit": hit,
        "lm_clip": lm_clip,
    }
    for head in HEAD_NAMES:
        columns |= {head: batch.decisions[head], f"{head}_logits": output.decision_logits[head]}
    return columns | _read_turns(batch, hit, lm_clip)


def _clip_of(batch: PackedBatch, positions: torch.Tensor, dataset: SampleDataset) -> torch.Tensor:
    """Return the clip that each position of a micro-batch belongs to, int64 [n]."""
    ends = torch.tensor(batch.segment_lengths, device=positions.device).cumsum(0)
    clips = torch.from_numpy(dataset.samples["clip"][[draw.sample for draw in batch.spec.draws]].astype(np.int64))
    return clips.to(positions.device)[torch.bucketize(positions, ends, right=True)]


def _read_turns(batch: PackedBatch, hit: torch.Tensor, clip: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the turns' columns. A turn is a hit if greedy decoding would write each of its tokens.

    Args:
        hit, clip: of each supervised token.
    """
    turns, of_turn = batch.lm_turn.unique(return_inverse=True)
    misses, is_dst, turn_clip = (torch.zeros(len(turns), dtype=torch.int64, device=clip.device) for _ in range(3))
    return {
        "turn_hit": misses.index_add_(0, of_turn, (~hit).long()) == 0,
        "turn_is_dst": is_dst.index_add_(0, of_turn, batch.lm_is_dst.long()) > 0,
        "turn_clip": turn_clip.index_copy_(0, of_turn, clip),
    }


def check_finite(columns: dict[str, np.ndarray], dataset: SampleDataset) -> None:
    """Raise NonFiniteError with the clips in which a loss or a logit is not finite: such a model has no metrics."""
    places = {"lm_loss": "lm_clip"} | {f"{head}_logits": "clip" for head in HEAD_NAMES}
    for name, clip_column in places.items():
        values = columns[name].reshape(len(columns[name]), -1)
        clips = np.unique(columns[clip_column][~np.isfinite(values).all(1)])
        if len(clips):
            shown = ", ".join(dataset.clips.index[int(clip)].id for clip in clips[:5])
            raise NonFiniteError(f"evaluation: {name} is not finite in {len(clips)} clips: {shown}")


def losses(columns: dict[str, np.ndarray], recipe: Recipe) -> dict[str, float]:
    """Return the loss terms of training and their weighted sum."""
    tensors = {name: torch.from_numpy(values) for name, values in columns.items()}
    logits = {head: tensors[f"{head}_logits"].double() for head in HEAD_NAMES}
    labels = {head: tensors[head] for head in HEAD_NAMES}
    counts = {"lm": len(columns["lm_loss"]), "dst_gen": int(columns["lm_is_dst"].sum())}
    for head, values in labels.items():
        counts |= {f"{head}_positives": int((values == 1).sum()), f"{head}_negatives": int((values == 0).sum())}
    positions = Positions(tensors["lm_loss"].double(), tensors["lm_is_dst"], logits, labels)
    terms = {name: float(term) for name, term in loss_terms(positions, counts, recipe.labels.balance).items()}
    return {"loss": weighted_sum(terms, recipe.loss), **{f"loss/{name}": term for name, term in terms.items()}}


def numbered_among(columns: dict[str, np.ndarray], clips: np.ndarray) -> dict[str, np.ndarray]:
    """Return readings whose clips are numbered by their place in `clips`, the sorted positions of those read."""
    return columns | {name: np.searchsorted(clips, columns[name]) for name in ("clip", "lm_clip", "turn_clip")}


def join_readings(parts: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the readings of several micro-batches or processes as one, in their order."""
    return {name: np.concatenate([columns[name] for columns in parts]) for name in parts[0]}
