"""Rows of a cache: each sees itself alone, and none is larger than it needs to be."""

import pytest
import torch
from torch import nn

from dst_dist.model.attention import segmented_causal_attention
from dst_dist.model.kv_cache import BLOCK, KVCache

LAYER = nn.Identity()
LAYER.layer_idx = 0


def states(tokens, heads, seed):
    return torch.randn(1, heads, tokens, 8, generator=torch.Generator().manual_seed(seed))


class Rows:
    """A cache of one layer, with all queries, keys and values of each row for comparison."""

    def __init__(self, num_rows):
        self.cache = KVCache(1, num_rows, torch.device("cpu"))
        self.seen = [None] * num_rows
        self.seed = 0

    def clear(self, row):
        self.cache.clear(row)
        self.seen[row] = None

    def read(self, counts, first=0):
        """Run one step and check that its output equals that of each row alone."""
        self.seed += 3
        step = (
            states(sum(counts), 4, self.seed),
            states(sum(counts), 2, self.seed + 1),
            states(sum(counts), 2, self.seed + 2),
        )
        self.cache.begin(first, counts)
        output = segmented_causal_attention(LAYER, *step, None, kv_cache=self.cache)[0]
        self.cache.finish()
        expected = []
        for row, *new in zip(
            range(first, first + len(counts)), *(part.split(counts, dim=2) for part in step), strict=True
        ):
            if new[0].shape[2] == 0:
                continue
            self.seen[row] = (
                new
                if self.seen[row] is None
                else [torch.cat(pair, 2) for pair in zip(self.seen[row], new, strict=True)]
            )
            whole = segmented_causal_attention(LAYER, *self.seen[row], None)[0]
            expected.append(whole[:, -new[0].shape[2] :])
        torch.testing.assert_close(output, torch.cat(expected, 1))


@pytest.mark.parametrize("num_rows", [1, 3])
def test_each_row_sees_itself_alone(num_rows):
    rows = Rows(num_rows)
    for counts in ([5, 1, 3], [1, 1, 1], [1, 4, 1], [2, 2, 2]):
        rows.read(counts[:num_rows])
    rows.clear(0)
    rows.read([3, 1, 1][:num_rows])
    assert rows.cache.lengths == [3, 9, 8][:num_rows]


def test_some_rows_may_have_nothing_to_read():
    rows = Rows(4)
    rows.read([2, 3, 4, 5])
    rows.read([1, 0, 2], first=1)
    rows.read([7], first=2)
    assert rows.cache.lengths == [2, 4, 11, 7]


def test_positions_are_those_in_the_row():
    cache = KVCache(1, 2, torch.device("cpu"))
    cache.begin(0, [2, 3])
    cache.finish()
    cache.clear(1)
    cache.begin(0, [1, 2])
    assert cache.positions.tolist() == [2, 0, 1]


def test_a_row_takes_the_place_of_another():
    rows = Rows(3)
    rows.read([2, 3, 9])
    rows.cache.move(2, 0)
    rows.seen[0], rows.seen[2] = rows.seen[2], None
    assert rows.cache.lengths == [9, 3, 0]
    rows.read([1, 1])


def test_it_is_as_large_as_the_longest_row_needs():
    rows = Rows(2)
    rows.read([1, 1])
    assert rows.cache.capacity == BLOCK
    rows.read([1, 4 * BLOCK])
    assert rows.cache.capacity == 5 * BLOCK
    # Still more than half of it is needed: copying would be for little.
    rows.clear(1)
    rows.read([1, 3 * BLOCK])
    assert rows.cache.capacity == 5 * BLOCK
    rows.clear(1)
    rows.read([1, 3])
    assert rows.cache.capacity == BLOCK
    rows.read([2, 2])
