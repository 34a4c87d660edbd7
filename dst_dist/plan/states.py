"""The memory that a process holds all the time: weights, master copies, gradients, moments and an engine's buffers."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import unwrap

FLOAT32 = 4
ENGINES = ("ddp", "zero2", "zero2_offload", "fsdp", "fsdp_no_reshard")
"""Files of `launch/` that a plan knows; each has a `cpu_` twin."""
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
    """Return what each process holds.

    Args:
        model: from `build_model`.
        engine: one of ENGINES.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) * FLOAT32
    if engine.startswith("fsdp"):
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


def traffic_of(model: nn.Module, engine: str, num_micro_batches: int) -> Mapping[str, int]:
    """Return the bytes that each process sends in an optimizer step, by kind; n - 1 of n parts of it leave the process.

    A ring's all-reduce sends everything twice, a reduce-scatter or an all-gather once.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) * FLOAT32
    if engine.startswith("fsdp"):
        gathers = 1 if engine == "fsdp_no_reshard" else 2 * num_micro_batches
        return {"weights gathered": gathers * weights, "gradients reduced": trained}
    if engine.startswith("zero2"):
        return {"gradients reduced": trained, "weights gathered": trained}
    return {"gradients reduced": 2 * trained}


def _shared(num_bytes: int, num_processes: int) -> int:
    return -(-num_bytes // num_processes)


def _gathered_bytes(model: nn.Module) -> int:
    """Return the weights that FSDP2 has gathered at once: all outside of layers, a layer, and the next one."""
    base: SmolVLMForDST = unwrap(model)
    layers = [*base.model.text_model.layers, *base.model.vision_model.encoder.layers]
    of_layer = [sum(one.numel() * one.element_size() for one in layer.parameters()) for layer in layers]
    everything = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return everything - sum(of_layer) + 2 * max(of_layer)
