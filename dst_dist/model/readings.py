"""Read a model over a split with the gold history: one array a quantity, over all positions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from dst_dist.config import Recipe
from dst_dist.data.batching import Draw, MicroBatchSpec, PackedBatch, micro_batches
from dst_dist.data.dataset import SampleDataset, make_loader
from dst_dist.data.samples import Limits
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.losses import NonFiniteError, Positions, loss_terms, weighted_sum
from dst_dist.model.out_of_memory import naming_the_batch
from dst_dist.model.smolvlm_dst import DSTOutput

CLIP_COLUMNS = ("clip", "lm_clip", "turn_clip")


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


def evaluation_specs(
    dataset: SampleDataset, limits: Limits, rank: int, num_processes: int, max_clips: int | None
) -> list[MicroBatchSpec]:
    """Every sample once (of `max_clips` clips, evenly spaced), spread over processes; as many on each."""
    chosen = np.flatnonzero(np.isin(dataset.samples["clip"], spread(len(dataset.clips.index), max_clips)))
    draws = [Draw(int(index), 0) for index in chosen]
    return micro_batches(0, 0, draws, dataset.samples, limits, rank, num_processes)


@torch.no_grad()
def read_model(
    forward: Callable[[PackedBatch], DSTOutput],
    dataset: SampleDataset,
    specs: Sequence[MicroBatchSpec],
    device: torch.device,
    num_workers: int,
    should_stop: Callable[[], bool] = lambda: False,
    show_progress: bool = False,
) -> dict[str, np.ndarray] | None:
    """Run the model over micro-batches; one array a column, over all positions. None if it was to stop.

    Columns: `dst_update`, `speaking` (labels), `dst_update_logits`, `speaking_logits` [D, 2], `is_frame`;
    `lm_loss`, `lm_is_dst`, `lm_hit` a supervised token; `turn_hit`, `turn_is_dst` a supervised turn; and `clip`,
    `lm_clip`, `turn_clip`, the positions of their clips in the split.
    """
    readings = Readings()
    loader = make_loader(dataset, specs, num_workers, device)
    for batch in tqdm(loader, total=len(specs), desc="evaluate", leave=False, disable=None if show_progress else True):
        if should_stop():
            return None
        batch = batch.to(device)
        batch.check()
        with naming_the_batch(dataset, batch):
            read_batch(readings, batch, forward(batch), dataset)
    return readings.joined()


def read_batch(readings: Readings, batch: PackedBatch, output: DSTOutput, dataset: SampleDataset) -> None:
    """Both heads at every decision position, and the text."""
    for head in HEAD_NAMES:
        readings.add(head, batch.decisions[head])
        readings.add(f"{head}_logits", output.decision_logits[head])
    readings.add("is_frame", batch.decision_is_frame)
    readings.add("clip", clip_of(batch, batch.decision_positions, dataset))
    read_text(readings, batch, output.lm_logits.float(), clip_of(batch, batch.lm_positions, dataset))


def clip_of(batch: PackedBatch, positions: torch.Tensor, dataset: SampleDataset) -> torch.Tensor:
    """The clip that each position of a micro-batch belongs to, int64 [n]."""
    ends = torch.tensor(batch.segment_lengths, device=positions.device).cumsum(0)
    clips = torch.from_numpy(dataset.samples["clip"][[draw.sample for draw in batch.spec.draws]].astype(np.int64))
    return clips.to(positions.device)[torch.bucketize(positions, ends, right=True)]


def read_text(readings: Readings, batch: PackedBatch, logits: torch.Tensor, clip: torch.Tensor) -> None:
    """Supervised tokens, and turns: right where greedy decoding would write each of their tokens."""
    hit = logits.argmax(-1) == batch.lm_targets
    readings.add("lm_loss", F.cross_entropy(logits, batch.lm_targets, reduction="none"))
    readings.add("lm_is_dst", batch.lm_is_dst)
    readings.add("lm_hit", hit)
    readings.add("lm_clip", clip)
    turns, of_turn = batch.lm_turn.unique(return_inverse=True)
    misses, is_dst, turn_clip = (torch.zeros(len(turns), dtype=torch.int64, device=clip.device) for _ in range(3))
    readings.add("turn_hit", misses.index_add_(0, of_turn, (~hit).long()) == 0)
    readings.add("turn_is_dst", is_dst.index_add_(0, of_turn, batch.lm_is_dst.long()) > 0)
    readings.add("turn_clip", turn_clip.index_copy_(0, of_turn, clip))


def check_finite(columns: dict[str, np.ndarray], dataset: SampleDataset) -> None:
    """Raises NonFiniteError naming what is not a number, and the clips: nothing could be said of such a model."""
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
    for head in HEAD_NAMES:
        counts |= {
            f"{head}_positives": int((columns[head] == 1).sum()),
            f"{head}_negatives": int((columns[head] == 0).sum()),
        }
    positions = Positions(tensors["lm_loss"].double(), tensors["lm_is_dst"], logits, labels)
    terms = {name: float(term) for name, term in loss_terms(positions, counts, recipe.labels.balance).items()}
    return {"loss": weighted_sum(terms, recipe.loss), **{f"loss/{name}": term for name, term in terms.items()}}


def numbered_among(columns: dict[str, np.ndarray], clips: np.ndarray) -> dict[str, np.ndarray]:
    """The readings with clips numbered by their place in `clips`, the rising positions of those that were read."""
    return columns | {name: np.searchsorted(clips, columns[name]) for name in CLIP_COLUMNS}


def join_processes(gathered: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The readings of all processes, one after another."""
    return {name: np.concatenate([columns[name] for columns in gathered]) for name in gathered[0]}
