"""Chooses the samples of a step, spreads them over processes, and packs them into micro-batches.

The plan is a pure function of (seed, epoch, dataset fingerprint, global batch size): the same samples
make the same optimizer step on any number of processes.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from dst_dist.data.conversation import IGNORE
from dst_dist.data.samples import Limits, Sample
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_NAMES

ENCODED_FRAME_COST = 100
"""Cost of a frame that the vision tower encodes, in tokens of the text model."""
CACHED_FRAME_COST = 0
"""Cost of a frame whose features are read."""


class Draw(NamedTuple):
    """One use of a sample in an epoch; `repeat` numbers the draws of a sample with a weight."""

    sample: int
    repeat: int


class MicroBatchSpec(NamedTuple):
    """The draws of one micro-batch, from which a data worker makes a `PackedBatch`."""

    step: int
    epoch: int
    draws: list[Draw]
    round_frames: int
    """Largest number of frames of any process in this round; all processes call the tower that often."""
    is_last: bool
    """True for the step's last micro-batch."""


@dataclass
class PackedBatch:
    """A micro-batch: samples one after another in a single row of T tokens.

    `lm_positions` are the positions whose *next* token is supervised: `collate` shifts the labels, once.
    An empty micro-batch (to keep processes in step) is one padding token without any position.
    """

    input_ids: torch.Tensor  # int64 [T]
    frames: torch.Tensor  # uint8 [N, 3, S, S], or features [N, ...]
    segment_lengths: list[int]  # tokens of each sample, summing to T
    lm_positions: torch.Tensor  # int64 [P]
    lm_targets: torch.Tensor  # int64 [P]
    lm_is_dst: torch.Tensor  # bool [P]
    lm_turn: torch.Tensor  # int64 [P], numbers the supervised turns of this micro-batch
    decision_positions: torch.Tensor  # int64 [D]
    decision_is_frame: torch.Tensor  # bool [D]
    decision_frames: torch.Tensor  # int64 [D]
    decisions: dict[str, torch.Tensor]  # int64 [D] in {1, 0, -100}, by head
    spec: MicroBatchSpec
    num_placeholders: int = 0
    fault: str | None = None

    def to(self, device: torch.device) -> "PackedBatch":
        """Return the same micro-batch with its tensors on a device."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "PackedBatch":
        """Return the same micro-batch in pinned memory; the data loader calls this."""
        return self._with_tensors(torch.Tensor.pin_memory)

    def without_content(self) -> "PackedBatch":
        """Return the micro-batch with empty tensors, to carry a fault."""
        return self._with_tensors(lambda tensor: tensor[:0].clone())

    def _with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "PackedBatch":
        fields = {name: change(value) if torch.is_tensor(value) else value for name, value in vars(self).items()}
        fields["decisions"] = {head: change(labels) for head, labels in self.decisions.items()}
        return PackedBatch(**fields)

    def check(self) -> None:
        """Raise DataError if a frame is corrupt and `data.on_missing` is `error`, or if a worker could not send it."""
        if self.fault is not None:
            raise DataError(self.fault)


@dataclass(frozen=True)
class BatchPlan:
    """The order of samples over all epochs.

    Args:
        weights: draws per epoch of each sample, int [num_samples].
        global_batch_size: samples of one optimizer step; an epoch's last step may have fewer.
        fingerprint: hex digest of the dataset; another dataset gives another order.
    """

    weights: np.ndarray
    global_batch_size: int
    seed: int
    fingerprint: str

    @property
    def num_draws(self) -> int:
        return int(self.weights.sum())

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_draws // self.global_batch_size)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """Return the positions in the list of draws, shuffled for this epoch."""
        entropy = [self.seed, epoch, int(self.fingerprint[:16], 16), self.global_batch_size]
        return np.random.default_rng(entropy).permutation(self.num_draws)

    def steps(self, start: int, stop: int) -> Iterator[tuple[int, int, list[Draw]]]:
        """Yield (step, epoch, draws) of the optimizer steps [start, stop) without going through the earlier ones."""
        samples = np.repeat(np.arange(len(self.weights)), self.weights)
        first_draw = np.repeat(np.cumsum(self.weights) - self.weights, self.weights)
        repeats = np.arange(self.num_draws) - first_draw
        order_epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(start, stop):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order_epoch, order = epoch, self.epoch_order(epoch)
            chosen = order[position * self.global_batch_size : (position + 1) * self.global_batch_size]
            pairs = zip(samples[chosen].tolist(), repeats[chosen].tolist(), strict=True)
            yield step, epoch, list(map(Draw._make, pairs))


def pack(
    draws: Sequence[Draw], samples: np.ndarray, limits: Limits, num_processes: int, frame_cost: int = ENCODED_FRAME_COST
) -> list[list[list[Draw]]]:
    """Return draws as micro-batches within the limits, spread over processes.

    Args:
        samples: the dataset's table of samples, with fields `tokens` and `frames`, each within the limits.
        frame_cost: of a frame, in tokens of the text model; it only balances processes.

    Returns:
        [process][micro-batch] -> draws; every process has the same number of micro-batches, some may be empty.
    """
    chosen, repeats = np.fromiter(chain.from_iterable(draws), np.int64, 2 * len(draws)).reshape(-1, 2).T
    sizes = np.stack([samples["tokens"][chosen], samples["frames"][chosen]], axis=1).astype(np.int64)
    assert (sizes <= limits).all(), "a sample is cut to the limits of a micro-batch"
    costs = sizes @ (1, frame_cost)
    order = np.lexsort((repeats, chosen, -costs))
    rounds = int(max(1, *-(-sizes.sum(axis=0) // (np.array(limits) * num_processes))))
    items = list(zip(order.tolist(), costs[order].tolist(), *sizes[order].T.tolist(), strict=True))
    cost = costs.tolist()
    bins = _fill(items, limits, rounds, num_processes)
    if len(bins) > rounds * num_processes:
        # More rounds were needed: start again, now evenly over all of them.
        bins = _fill(items, limits, len(bins) // num_processes, num_processes)
    bins.sort(key=lambda members: -sum(map(cost.__getitem__, members)))
    dealt: list[list[list[Draw]]] = [[] for _ in range(num_processes)]
    for index, members in enumerate(bins):
        turn, place = divmod(index, num_processes)
        # The direction alternates, so that no process gets the larger one every time.
        process = place if turn % 2 == 0 else num_processes - 1 - place
        dealt[process].append([draws[member] for member in members])
    return dealt


def _fill(
    items: Sequence[tuple[int, int, int, int]], limits: Limits, rounds: int, num_processes: int
) -> list[list[int]]:
    """Put each item into the cheapest bin that has room, in this order; if none has, add a bin for each process.

    A bin found without room waits in a heap by the room that it lacked, until an item comes that is as small. So an
    item looks at few bins, however many there are.

    Args:
        items: position, cost, tokens and frames of each.
    """
    bins: list[list[int]] = [[] for _ in range(rounds * num_processes)]
    tokens_left, frames_left = [limits.tokens] * len(bins), [limits.frames] * len(bins)
    # A bin is cost << 32 | place: ordered as the pair would be, and compared in less time.
    by_cost = list(range(len(bins)))
    # Heaps of (minus the room, bin): the bin with the most room first.
    few_tokens: list[tuple[int, int]] = []
    few_frames: list[tuple[int, int]] = []
    for index, cost, tokens, frames in items:
        while few_tokens and -few_tokens[0][0] >= tokens:
            heapq.heappush(by_cost, heapq.heappop(few_tokens)[1])
        while few_frames and -few_frames[0][0] >= frames:
            heapq.heappush(by_cost, heapq.heappop(few_frames)[1])
        while by_cost:
            place = by_cost[0] & 0xFFFFFFFF
            if tokens_left[place] < tokens:
                heapq.heappush(few_tokens, (-tokens_left[place], by_cost[0]))
            elif frames_left[place] < frames:
                heapq.heappush(few_frames, (-frames_left[place], by_cost[0]))
            else:
                break
            heapq.heappop(by_cost)
        else:
            place = len(bins)
            by_cost = list(range(place, place + num_processes))
            bins += [[] for _ in range(num_processes)]
            tokens_left += [limits.tokens] * num_processes
            frames_left += [limits.frames] * num_processes
        heapq.heapreplace(by_cost, by_cost[0] + (cost << 32))
        bins[place].append(index)
        tokens_left[place] -= tokens
        frames_left[place] -= frames
    return bins


def micro_batches(
    step: int,
    epoch: int,
    draws: Sequence[Draw],
    samples: np.ndarray,
    limits: Limits,
    rank: int,
    num_processes: int,
    frame_cost: int = ENCODED_FRAME_COST,
) -> list[MicroBatchSpec]:
    """Return one process's micro-batches of a step; `samples` and `frame_cost` are as in `pack`."""
    dealt = pack(draws, samples, limits, num_processes, frame_cost)
    chosen = [draw.sample for draw in draws]
    frames = dict(zip(draws, samples["frames"][chosen].tolist(), strict=True))
    num_frames = [[sum(map(frames.__getitem__, members)) for members in own] for own in dealt]
    rounds = [max(of_round) for of_round in zip(*num_frames, strict=True)]
    return [
        MicroBatchSpec(step, epoch, members, rounds[index], index == len(rounds) - 1)
        for index, members in enumerate(dealt[rank])
    ]


class MicroBatchSampler:
    """Yields one process's micro-batches in the order of the plan, from any step on.

    Args:
        own: arguments of `micro_batches` after the draws: table of samples, limits, rank, processes, cost of a frame.
    """

    def __init__(self, plan: BatchPlan, *own, start: int, stop: int):
        self.plan, self.own, self.start, self.stop = plan, own, start, stop

    def __iter__(self) -> Iterator[MicroBatchSpec]:
        for step, epoch, draws in self.plan.steps(self.start, self.stop):
            yield from micro_batches(step, epoch, draws, *self.own)


def collate(samples: Sequence[Sample], spec: MicroBatchSpec, frames: torch.Tensor, pad_id: int) -> PackedBatch:
    """Return samples packed into one row, with labels shifted: the target of a position is the token after it.

    Args:
        frames: uint8 [N, 3, S, S] or features [N, ...], the samples' frames one after another.
    """
    lengths = [len(sample.input_ids) for sample in samples] or [1]
    starts = np.cumsum([0, *lengths[:-1]])
    supervised = [np.flatnonzero(sample.labels != IGNORE) for sample in samples]
    num_turns = np.cumsum([0, *(sample.turn.max(initial=-1) + 1 for sample in samples)])
    places = list(zip(samples, starts, supervised, num_turns, strict=False))

    def joined(parts: list[np.ndarray], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(dtype) if parts else torch.empty(0, dtype=dtype)

    return PackedBatch(
        input_ids=joined([sample.input_ids for sample in samples]) if samples else torch.tensor([pad_id]),
        frames=frames,
        segment_lengths=lengths,
        lm_positions=joined([at + start - 1 for _, start, at, _ in places]),
        lm_targets=joined([sample.labels[at] for sample, _, at, _ in places]),
        lm_is_dst=joined([sample.is_dst[at] for sample, _, at, _ in places], torch.bool),
        lm_turn=joined([sample.turn[at] + turn for sample, _, at, turn in places]),
        decision_positions=joined([sample.decision_positions + start for sample, start, _, _ in places]),
        decision_is_frame=joined([sample.decision_is_frame for sample in samples], torch.bool),
        decision_frames=joined([sample.decision_frames for sample in samples]),
        decisions={head: joined([sample.decisions[head] for sample in samples]) for head in HEAD_NAMES},
        spec=spec,
    )
