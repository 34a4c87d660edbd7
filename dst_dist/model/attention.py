"""Causal attention over samples packed in one row; they cannot mix, whatever the masks say."""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from dst_dist.model.kv_cache import KVCache

SEGMENTED_CAUSAL = "segmented_causal"


def segmented_causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segment_lengths: list[int] | None = None,
    kv_cache: KVCache | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each segment, one kernel call a segment, so no T x T mask exists.

    Args:
        query: [1, heads, T, d].
        key, value: [1, key heads, T, d]; without segments they may be longer than the queries.
        attention_mask: must be None; samples are told apart by `segment_lengths` alone.
        segment_lengths: tokens of each packed sample, sum = T. None: all is one sample, and the
            queries are its last T tokens.
        kv_cache: the T tokens go on where its rows ended, as its `begin` was told; no `segment_lengths` then.

    Returns:
        [batch, T, heads, d] in the value's dtype, and None for the weights, as transformers expects.

    Raises:
        ValueError: on a mask, lengths that do not make up the row, or attention of another kind.
    """
    if sliding_window is not None or softcap is not None:
        raise ValueError(f"{SEGMENTED_CAUSAL} attention knows no sliding_window and no softcap")
    if attention_mask is not None:
        raise ValueError(f"{SEGMENTED_CAUSAL} attention takes no attention_mask, pass segment_lengths")
    # Under autocast float32 rotary tables promote queries and keys, the values stay in compute precision.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if kv_cache is not None:
        key, value = kv_cache.extend(module.layer_idx, key, value)
        query, mask = kv_cache.pad(query)
        output = kv_cache.pack(_attend(query, key, value, scaling, dropout, mask))
        return output.transpose(1, 2).contiguous(), None
    if segment_lengths is None:
        return _attend(query, key, value, scaling, dropout).transpose(1, 2).contiguous(), None
    _check_segments(segment_lengths, query, key)
    pieces = zip(*(states.split(segment_lengths, dim=2) for states in (query, key, value)), strict=True)
    output = torch.cat([_attend(q, k, v, scaling, dropout) for q, k, v in pieces], dim=2)
    return output.transpose(1, 2).contiguous(), None


def _check_segments(segment_lengths: list[int], query: torch.Tensor, key: torch.Tensor) -> None:
    rows, length = query.shape[0], query.shape[2]
    if rows != 1 or key.shape[2] != length:
        raise ValueError(f"packed samples want one row and no cache, {rows} rows, T={length}, {key.shape[2]} keys")
    if min(segment_lengths) < 1 or sum(segment_lengths) != length:
        raise ValueError(f"segment_lengths must be positive and sum to {length}, found {segment_lengths}")


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of the last `q` of `k` tokens, or as a mask allows, [batch, heads, q, d]."""
    queries, keys = query.shape[2], key.shape[2]
    is_causal = mask is None and queries == keys and queries > 1
    if mask is None and 1 < queries < keys:
        # torch's is_causal aligns at the upper left; behind a cache the queries are the last tokens.
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=is_causal,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


AttentionInterface.register(SEGMENTED_CAUSAL, segmented_causal_attention)
