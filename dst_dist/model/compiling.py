"""Text layers compiled for training: one graph before a layer's attention, the attention, one graph after it."""

import functools
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from dst_dist.devices import on_cpu
from dst_dist.errors import ConfigError
from dst_dist.logs import logger
from dst_dist.model.attention import segmented_causal_attention
from dst_dist.model.smolvlm_dst import SmolVLMForDST

COMPILERS = ("gcc", "g++", "clang", "cc")
"""One of these builds what torch and Triton generate."""
UNCOMPILED = (
    "train.compile: layers ran uncompiled %d times, because torch had compiled them too often; steps are slower"
)


def why_not_compiled(setting: bool | str) -> str | None:
    """Return why text layers are not compiled under `train.compile`, or None if they are.

    Raises:
        ConfigError: if the recipe wants it where it cannot be done.
    """
    if setting is False:
        return "train.compile is false"
    on_gpu = not on_cpu()
    if setting == "auto" and not on_gpu:
        return "there is no GPU"
    if not any(map(shutil.which, COMPILERS)):
        reason = f"there is no compiler ({', '.join(COMPILERS)})"
    elif on_gpu and importlib.util.find_spec("triton") is None:
        reason = "triton is not installed"
    else:
        return None
    if setting is True:
        raise ConfigError(f"train.compile: {reason}; install it, or set train.compile to auto or false")
    return reason


def compile_layers(model: SmolVLMForDST) -> None:
    """Let the text layers run as compiled graphs in training mode; parameters, their names and hooks stay.

    The graphs are made in the first step, for rows of any length, and all layers share them. They have no attention:
    its calls are as many as a row has samples, and a graph for each number would be too many.
    """
    # DDP would split graphs by its buckets, for an overlap with communication that separate layers have already.
    torch._dynamo.config.optimize_ddp = False
    before, after = (torch.compile(part, dynamic=True) for part in (before_attention, after_attention))
    for layer in model.model.text_model.layers:
        # On the layer, not around it: the hooks of FSDP2 stay outside, and no name changes.
        layer.forward = functools.partial(_forward, layer, before, after, model.compute_dtype)


@contextmanager
def compile_error_named() -> Iterator[None]:
    """Run a block that may compile layers. Raises RuntimeError with the key to change if torch cannot compile them."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).split())[:300]
        raise RuntimeError(
            "torch could not compile the text layers; set train.compile=false, with --allow-changed layers if the run "
            f"has checkpoints ({reason})"
        ) from error


def _forward(
    layer: nn.Module,
    before: Callable,
    after: Callable,
    compute_dtype: torch.dtype | None,
    hidden: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    segment_lengths: list[int] | None = None,
    **others: object,
) -> torch.Tensor:
    """Return a layer's output: as its class computes it in evaluation mode, by the graphs in training mode."""
    # A row of one token, a process's share of a short step, would be a graph of its own.
    if not layer.training or hidden.shape[1] == 1:
        others |= {"position_embeddings": position_embeddings, "segment_lengths": segment_lengths}
        return type(layer).forward(layer, hidden, **others)

    def run(hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        attention = layer.self_attn
        options = {"scaling": attention.scaling, "dropout": attention.attention_dropout}
        with working_weights(layer, compute_dtype):
            states = before(layer, hidden, cos, sin)
            attended, _ = segmented_causal_attention(
                attention, *states, attention_mask=None, segment_lengths=segment_lengths, **options
            )
            return after(layer, hidden, attended)

    if layer.gradient_checkpointing:
        return layer._gradient_checkpointing_func(run, hidden, *position_embeddings)
    return run(hidden, *position_embeddings)


def before_attention(
    layer: nn.Module, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values, [1, heads, T, d], of states [1, T, hidden], as `LlamaAttention` does."""
    _count_if_not_compiled()
    attention, states = layer.self_attn, layer.input_layernorm(hidden)
    shape = (*hidden.shape[:2], -1, attention.head_dim)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    query, key, value = (projection(states).view(shape).transpose(1, 2) for projection in projections)
    query, key = apply_rotary_pos_emb(query, key, cos, sin)
    # Tables in float32 promote them; here the cast costs nothing.
    return query.to(value.dtype), key.to(value.dtype), value


def after_attention(layer: nn.Module, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Return the layer's output, as `LlamaDecoderLayer` does, from its input and its attention's [1, T, heads, d]."""
    _count_if_not_compiled()
    hidden = hidden + layer.self_attn.o_proj(attended.flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


@contextmanager
def working_weights(layer: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Put copies in the compute dtype in place of a layer's trained matrices, made by one kernel; their gradients too.

    Autocast would make each one by itself, and a compiled graph once more in its backward pass.
    """
    modules = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    modules = [module for module in modules if dtype is not None and module.weight.dtype != dtype]
    # Read now: under FSDP2 a layer has its whole weights only while it runs.
    masters = [module.weight for module in modules]
    copies = _Copies.apply(dtype, *masters) if masters else ()
    try:
        _set_weights(modules, copies)
        yield
    finally:
        _set_weights(modules, masters)


def _set_weights(modules: Sequence[nn.Linear], weights: Sequence[torch.Tensor]) -> None:
    for module, weight in zip(modules, weights, strict=True):
        # Not an attribute: torch lets only parameters replace parameters.
        module._parameters["weight"] = weight


class _Copies(torch.autograd.Function):
    """Copies of tensors in another dtype; gradients come back in the tensors' own."""

    @staticmethod
    def forward(ctx, dtype: torch.dtype, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.dtype = tensors[0].dtype
        return _copies(tensors, dtype)

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, *_copies(gradients, ctx.dtype)


def _copies(tensors: Sequence[torch.Tensor], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(copies, list(tensors))
    return tuple(copies)


_num_uncompiled = 0


def _count_if_not_compiled() -> None:
    """Count and log a part of a layer that runs as plain Python: torch does that once it has compiled it too often."""
    global _num_uncompiled
    if not torch.compiler.is_compiling():
        _num_uncompiled += 1
        # At powers of two: the lines stay few, and their count grows.
        if _num_uncompiled & (_num_uncompiled - 1) == 0:
            logger.warning(UNCOMPILED, _num_uncompiled)
