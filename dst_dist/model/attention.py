"""Causal attention over samples packed in one row: it takes no mask, so samples cannot mix."""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, SmolVLMConfig

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
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each segment, one kernel call a segment, so no T x T mask exists.

    Args:
        query: [1, heads, T, d].
        key, value: [1, key heads, T, d].
        attention_mask: must be None; samples are separated by `segment_lengths` alone.
        segment_lengths: tokens of each packed sample, sum = T; None for a single sample. Not used with a cache.
        kv_cache: the T tokens continue its rows, as its `begin` prepared them.

    Returns:
        [1, T, heads, d] in the value's dtype, and None for the weights, as transformers expects.

    Raises:
        ValueError: on a mask, or lengths that do not make up the row.
    """
    if attention_mask is not None:
        raise ValueError(f"{SEGMENTED_CAUSAL} attention takes no attention_mask, pass segment_lengths")
    # Under autocast the float32 rotary tables promote queries and keys; the values stay in compute precision.
    query, key = query.to(value.dtype), key.to(value.dtype)
    options = {"dropout_p": dropout, "scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    if kv_cache is not None:
        key, value = kv_cache.extend(module.layer_idx, key, value)
        query, mask = kv_cache.pad(query)
        pieces = [kv_cache.pack(_attend(query, key, value, mask, **options))]
    else:
        rows, length = query.shape[0], query.shape[2]
        lengths = segment_lengths or [length]
        if rows != 1 or min(lengths) < 1 or sum(lengths) != length:
            raise ValueError(f"segment_lengths must be positive and sum to {length} in one row: {lengths}, {rows} rows")
        inputs = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
        pieces = [_attend(*piece, **options) for piece in inputs]
    # Kernels write [1, T, heads, d] already, and so each output is copied at most once.
    pieces = [piece.transpose(1, 2) for piece in pieces]
    return (torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0].contiguous()), None


def square_attention(config: SmolVLMConfig, precision: str, longest: int, device_type: str) -> str | None:
    """Return a warning if this attention holds a T x T matrix on a GPU; None if it does not, and on a CPU.

    torch's kernels for float32 know no grouped heads (its `sdp_utils.cpp`), so such a model falls to plain products.

    Args:
        precision: the recipe's `train.precision`.
        longest: tokens of the longest sample.
    """
    heads, groups = config.text_config.num_attention_heads, config.text_config.num_key_value_heads
    if device_type != "cuda" or precision != "fp32" or heads == groups:
        return None
    gib = 4 * heads * longest**2 / 2**30
    return (
        f"train.precision is fp32, and the model's {heads} heads share {groups} groups of keys: on a GPU attention "
        f"holds T x T numbers for each head, {gib:.2f} GiB a layer for {longest} tokens; in bf16 it does not"
    )


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None, **options: object
) -> torch.Tensor:
    """Return the attention of the last `q` of `k` tokens, or as a mask allows, [rows, heads, q, d]."""
    queries, keys = query.shape[2], key.shape[2]
    is_causal = mask is None and queries == keys and queries > 1
    if mask is None and 1 < queries < keys:
        # torch's is_causal aligns at the upper left; with a cache the queries are the last tokens.
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=is_causal, **options)


AttentionInterface.register(SEGMENTED_CAUSAL, segmented_causal_attention)
