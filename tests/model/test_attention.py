"""Attention over packed samples, against softmax attention computed step by step."""

import pytest
import torch
from torch import nn

from dst_dist.model.attention import segmented_causal_attention


def states(tokens, heads, seed, dtype=torch.float32):
    return torch.randn(1, heads, tokens, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)


def reference(query, key, value, allowed):
    """Return softmax attention computed without a kernel; `allowed` is bool [queries, keys]."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.transpose(-1, -2) / 8**0.5
    return (scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def attend(query, key, value, segment_lengths=None, mask=None):
    return segmented_causal_attention(nn.Identity(), query, key, value, mask, segment_lengths=segment_lengths)[0]


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_segments_equal_a_block_causal_mask(key_heads):
    query, key, value = states(9, 4, 1), states(9, key_heads, 2), states(9, key_heads, 3)
    segment = torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 2])
    allowed = (segment[:, None] == segment) & torch.ones(9, 9, dtype=torch.bool).tril()
    torch.testing.assert_close(attend(query, key, value, [4, 1, 4]), reference(query, key, value, allowed))


def test_without_segments_the_row_is_one_sample():
    query, key, value = states(6, 4, 1), states(6, 4, 2), states(6, 4, 3)
    torch.testing.assert_close(attend(query, key, value), attend(query, key, value, [6]))


def test_no_gradient_crosses_a_segment_and_none_goes_back_in_time():
    query, key, value = (states(5, 2, seed).requires_grad_() for seed in (1, 2, 3))
    attend(query, key, value, [3, 2])[0, 1].sum().backward()
    reached = value.grad.abs().sum((0, 1, 3)) > 0
    assert reached.tolist() == [True, True, False, False, False]


def test_output_keeps_the_values_precision():
    query, key, value = states(4, 2, 1), states(4, 2, 2), states(4, 2, 3, torch.bfloat16)
    assert attend(query, key, value, [4]).dtype == torch.bfloat16


@pytest.mark.parametrize("lengths", [[3, 2], [5, 2, -1], [6, 0], [7]])
def test_lengths_that_do_not_make_up_the_row_are_an_error(lengths):
    query, key, value = states(6, 2, 1), states(6, 2, 2), states(6, 2, 3)
    with pytest.raises(ValueError, match="segment_lengths"):
        attend(query, key, value, lengths)


def test_a_mask_is_an_error_and_not_ignored():
    query, key, value = states(6, 2, 1), states(6, 2, 2), states(6, 2, 3)
    with pytest.raises(ValueError, match="attention_mask"):
        attend(query, key, value, mask=torch.ones(1, 1, 6, 6, dtype=torch.bool))


def test_several_rows_are_an_error():
    rows = states(6, 2, 1).expand(2, -1, -1, -1)
    with pytest.raises(ValueError, match="one row"):
        attend(rows, rows, rows, [6])
