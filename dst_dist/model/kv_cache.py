"""Keys and values of several streams, each of its own length, in one batch."""

import torch

BLOCK = 256
"""Positions by which the cache grows."""


class KVCache:
    """One row a stream: what each layer computed of the tokens read so far.

    A step is `begin`, then every layer's `extend`, then `finish`. Its tokens stand one row after another without
    padding, [T] in all; only attention works on rows padded to the longest.

    Attributes:
        lengths: tokens in each row.
        capacity: positions allocated for each row: what the longest needs, in blocks. Given back when rows are short.
        positions: int64 [T], of the step's tokens in their rows; restart at 0 with a row.
    """

    def __init__(self, num_layers: int, num_rows: int, device: torch.device):
        self.lengths = [0] * num_rows
        self.capacity = 0
        self.positions = torch.empty(0, dtype=torch.int64, device=device)
        self._device = device
        self._layers: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * num_layers
        self._counts: list[int] = []

    def clear(self, row: int) -> None:
        """Forget a row, which begins again at position 0."""
        self.lengths[row] = 0

    def move(self, source: int, target: int) -> None:
        """Put a row in the place of another; its old place is cleared."""
        for states in (states for layer in self._layers if layer is not None for states in layer):
            states[target, : self.lengths[source]] = states[source, : self.lengths[source]]
        self.lengths[target], self.lengths[source] = self.lengths[source], 0

    def num_bytes(self) -> int:
        return sum(states.nbytes for layer in self._layers if layer is not None for states in layer)

    def begin(self, first: int, counts: list[int]) -> None:
        """Make room for a step: `counts[i]` tokens of row `first + i`, of some rows perhaps none."""
        self._counts, self._rows = counts, slice(first, first + len(counts))
        starts = self.lengths[self._rows]
        self._longest = max(start + count for start, count in zip(starts, counts, strict=True))
        self._make_room(max(self._longest, *self.lengths))
        rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        offsets = torch.cat([torch.arange(count) for count in counts])
        positions = torch.tensor(starts)[rows] + offsets
        self.positions = positions.to(self._device)
        # Where a token lies among its layer's positions, and among the padded queries.
        self._places = ((rows + first) * self.capacity + positions).to(self._device)
        self._slots = (rows * max(counts) + offsets).to(self._device)
        self._mask = self._make_mask(starts) if len(counts) > 1 else None

    def _make_mask(self, starts: list[int]) -> torch.Tensor:
        """bool [rows, 1, longest count, longest row]: a query sees its own row up to itself."""
        queries = torch.tensor(starts, device=self._device)[:, None] + torch.arange(
            max(self._counts), device=self._device
        )
        return (torch.arange(self._longest, device=self._device) <= queries[:, :, None])[:, None]

    def _make_room(self, longest: int) -> None:
        capacity = -(-longest // BLOCK) * BLOCK
        if self.capacity // 2 < capacity <= self.capacity:
            return
        for index, layer in enumerate(self._layers):
            if layer is not None:
                self._layers[index] = tuple(_resized(states, capacity) for states in layer)
        self.capacity = capacity

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values, [1, key heads, T, d]; gives the step's rows up to the longest,
        [rows, key heads, longest, d], of which each row's own are in front."""
        if self._layers[layer] is None:
            # Zeros, because what is masked is still multiplied: NaN would come through.
            shape = len(self.lengths), self.capacity, keys.shape[1], keys.shape[3]
            self._layers[layer] = keys.new_zeros(shape), values.new_zeros(shape)
        whole = []
        for states, new in zip(self._layers[layer], (keys, values), strict=True):
            states.flatten(0, 1).index_copy_(0, self._places, new[0].transpose(0, 1))
            whole.append(states[self._rows, : self._longest].transpose(1, 2))
        return whole[0], whole[1]

    def pad(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Queries [1, heads, T, d] as [rows, heads, longest count, d], and the mask they need; None for a single row,
        whose queries are simply its last tokens."""
        if len(self._counts) == 1:
            return queries, None
        heads, width = queries.shape[1], queries.shape[3]
        padded = queries.new_zeros(len(self._counts) * max(self._counts), heads, width)
        padded[self._slots] = queries[0].transpose(0, 1)
        return padded.view(len(self._counts), -1, heads, width).transpose(1, 2), self._mask

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """The reverse, for attention's output: [1, heads, T, d] from [rows, heads, longest count, d]."""
        if len(self._counts) == 1:
            return padded
        return padded.transpose(1, 2).flatten(0, 1)[self._slots].transpose(0, 1)[None]

    def finish(self) -> None:
        """The step's tokens now belong to their rows."""
        for row, count in enumerate(self._counts, start=self._rows.start):
            self.lengths[row] += count


def _resized(states: torch.Tensor, capacity: int) -> torch.Tensor:
    resized = states.new_zeros(states.shape[0], capacity, *states.shape[2:])
    kept = min(capacity, states.shape[1])
    resized[:, :kept] = states[:, :kept]
    return resized
