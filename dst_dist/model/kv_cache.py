"""Keys and values of several streams, each of its own length, in one batch."""

import torch
import torch.nn.functional as F

BLOCK = 256
"""Positions by which the cache grows."""


class KVCache:
    """The keys and values of each layer for the tokens read so far, one row a stream.

    A step is `begin`, then every layer's `extend`, then `finish`. Its tokens are one row after another without
    padding, [T] in all; only attention works on rows padded to the longest.

    Attributes:
        lengths: tokens in each row.
        capacity: positions allocated for each row: as many as the longest needs, in blocks. Freed when rows are short.
        positions: int64 [T], places of the step's tokens in their rows, from 0.
    """

    def __init__(self, num_layers: int, num_rows: int, device: torch.device):
        self.lengths = [0] * num_rows
        self.capacity = 0
        self.positions = torch.empty(0, dtype=torch.int64, device=device)
        self._device = device
        # Keys and values of each layer, [2, rows, capacity, key heads, d].
        self._layers: list[torch.Tensor | None] = [None] * num_layers
        self._counts: list[int] = []

    def clear(self, row: int) -> None:
        """Empty a row, which begins again at position 0."""
        self.lengths[row] = 0

    def move(self, source: int, target: int) -> None:
        """Copy a row over another one, and empty it."""
        length = self.lengths[source]
        for states in self._layers:
            if states is not None:
                states[:, target, :length] = states[:, source, :length]
        self.lengths[target], self.lengths[source] = length, 0

    def begin(self, first: int, counts: list[int]) -> None:
        """Make room for a step: `counts[i]` tokens of row `first + i`, where some counts may be 0."""
        self._counts, self._rows = counts, slice(first, first + len(counts))
        starts = self.lengths[self._rows]
        self._longest = max(start + count for start, count in zip(starts, counts, strict=True))
        self._make_room(max(self._longest, *self.lengths))
        rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        offsets = torch.cat([torch.arange(count) for count in counts])
        positions = torch.tensor(starts)[rows] + offsets
        self.positions = positions.to(self._device)
        # The index of each token among its layer's positions, and among the padded queries.
        self._places = ((rows + first) * self.capacity + positions).to(self._device)
        self._slots = (rows * max(counts) + offsets).to(self._device)
        self._mask = None
        if len(counts) > 1:
            # bool [rows, 1, longest count, longest row]: a query sees its own row up to itself.
            queries = torch.tensor(starts)[:, None, None, None] + torch.arange(max(counts))[:, None]
            self._mask = torch.arange(self._longest, device=self._device) <= queries.to(self._device)

    def _make_room(self, longest: int) -> None:
        """Allocate what `longest` needs; keep what is there if more than half of it is needed, since copying costs."""
        capacity = -(-longest // BLOCK) * BLOCK
        if self.capacity // 2 < capacity <= self.capacity:
            return
        # Padding by a negative number cuts off.
        change = 0, 0, 0, 0, 0, capacity - self.capacity
        for layer, states in enumerate(self._layers):
            if states is not None:
                self._layers[layer] = F.pad(states, change)
        self.capacity = capacity

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values, [1, key heads, T, d].

        Returns:
            The keys and values of the step's rows, [rows, key heads, longest, d], each padded at its end.
        """
        if self._layers[layer] is None:
            # Zeros, because masked positions are still multiplied: NaN would come through.
            self._layers[layer] = keys.new_zeros(2, len(self.lengths), self.capacity, keys.shape[1], keys.shape[3])
        states, new = self._layers[layer], torch.cat([keys, values])
        states.flatten(1, 2).index_copy_(1, self._places, new.transpose(1, 2))
        return states[:, self._rows, : self._longest].transpose(2, 3).unbind()

    def pad(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return queries [1, heads, T, d] as [rows, heads, longest count, d], and the mask they need.

        The mask is None for a single row, whose queries are its last tokens.
        """
        if len(self._counts) == 1:
            return queries, None
        heads, width = queries.shape[1], queries.shape[3]
        padded = queries.new_zeros(len(self._counts) * max(self._counts), heads, width)
        padded[self._slots] = queries[0].transpose(0, 1)
        return padded.view(len(self._counts), -1, heads, width).transpose(1, 2), self._mask

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Return attention's output [rows, heads, longest count, d] without padding, [1, heads, T, d]."""
        if len(self._counts) == 1:
            return padded
        return padded.transpose(1, 2).flatten(0, 1)[self._slots].transpose(0, 1)[None]

    def finish(self) -> None:
        """Count the step's tokens as their rows'."""
        for row, count in enumerate(self._counts, start=self._rows.start):
            self.lengths[row] += count
