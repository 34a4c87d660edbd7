"""Adds up the memory that a process always holds: weights, master copies, gradients, moments, an engine's buffers."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import unwrap

FLOAT32 = 4
ENGINES = ("ddp", "zero2", "zero2_offload", "fsdp", "fsdp_no_reshard", "hsdp")
"""Files of `launch/` that a plan knows; each has a `cpu_` twin."""
SHARDING_WEIGHTS = ("fsdp", "fsdp_no_reshard", "hsdp")
BETWEEN_NODES = "gradients reduced between nodes"
ZERO_BUCKET = 50_000_000
"""Numbers in a bucket of ds_configs/*.json; with `overlap_comm` two are in use."""


@dataclass(frozen=True)
class States:
    """Bytes on a process's device."""

    weights: int
    masters: int
    """float32 copies of trained weights; under DDP and FSDP2 the trained weights are float32 themselves."""
    gradients: int
    moments: int
    buffers: int
    """Gradients that are being reduced, and weights that are gathered while a layer runs."""

    @property
    def total(self) -> int:
        return sum(vars(self).values())


def states_of(model: nn.Module, engine: str, num_processes: int) -> States:
    """Return the bytes that each process holds.

    Args:
        model: from `build_model`.
        engine: one of ENGINES.
        num_processes: number that share what the engine shards: all, or under `hsdp` those of a node.
    """
    weights, trained = _weight_bytes(model), _trained_bytes(model)
    if engine in SHARDING_WEIGHTS:
        gathered = weights if engine == "fsdp_no_reshard" else _gathered_bytes(model)
        shard = _shared(trained, num_processes)
        return States(_shared(weights, num_processes), 0, shard, 2 * shard, gathered if num_processes > 1 else 0)
    if engine.startswith("zero2"):
        shard = _shared(trained, num_processes)
        bucket = min(2 * ZERO_BUCKET * FLOAT32, 2 * trained)
        if engine == "zero2_offload":
            return States(weights, 0, 0, 0, bucket)
        return States(weights, shard, shard, 2 * shard, bucket)
    return States(weights, 0, trained, 2 * trained, trained if num_processes > 1 else 0)


def traffic_of(model: nn.Module, engine: str, num_micro_batches: int, num_sharing: int) -> Mapping[str, int]:
    """Return the bytes that each process sends in an optimizer step, by kind; of n parts, n - 1 leave the process.

    A ring's all-reduce sends everything twice, a reduce-scatter or an all-gather once.

    Args:
        num_sharing: processes that share the weights under `hsdp`.
    """
    weights, trained = _weight_bytes(model), _trained_bytes(model)
    if engine in SHARDING_WEIGHTS:
        gathers = 1 if engine == "fsdp_no_reshard" else 2 * num_micro_batches
        sent = {"weights gathered": gathers * weights, "gradients reduced": trained}
        return sent | ({BETWEEN_NODES: 2 * _shared(trained, num_sharing)} if engine == "hsdp" else {})
    if engine.startswith("zero2"):
        return {"gradients reduced": trained, "weights gathered": trained}
    return {"gradients reduced": 2 * trained}


def crossing_of(model: nn.Module, engine: str, num_micro_batches: int, num_sharing: int) -> int:
    """Return the bytes that leave a node in an optimizer step, of all its processes together.

    A ring through all processes in order of rank leaves a node at one place, so what a process sends crosses once.
    Under `hsdp` only the gradients' shares cross, each in a ring of its own.
    """
    sent = traffic_of(model, engine, num_micro_batches, num_sharing)
    return num_sharing * sent[BETWEEN_NODES] if engine == "hsdp" else sum(sent.values())


def _weight_bytes(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def _trained_bytes(model: nn.Module) -> int:
    """Return the bytes of trained weights in float32, in which gradients are reduced on every engine."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) * FLOAT32


def _shared(num_bytes: int, num_processes: int) -> int:
    return -(-num_bytes // num_processes)


def _gathered_bytes(model: nn.Module) -> int:
    """Return the weights that FSDP2 has gathered at once: all outside of layers, a layer, and the next one."""
    base: SmolVLMForDST = unwrap(model)
    layers = [*base.model.text_model.layers, *base.model.vision_model.encoder.layers]
    of_layer = [sum(one.numel() * one.element_size() for one in layer.parameters()) for layer in layers]
    return _weight_bytes(model) - sum(of_layer) + 2 * max(of_layer)
