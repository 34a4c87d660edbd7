"""Weights and Adam moments by parameter name, wherever an engine keeps them.

DDP has whole tensors on every process, FSDP2 rows of them, ZeRO-2 stretches of flat partitions. All three
are contiguous stretches of the flattened parameter, which is the form that checkpoints have.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from dst_dist.train.engine import Engine
from dst_dist.train.state_files import Stretch, StretchReader

KINDS = ("weight", "exp_avg", "exp_avg_sq")
"""The float32 weight and both of Adam's moments (Kingma and Ba, 2015)."""


@dataclass
class Held:
    """The part of one trained parameter that this process holds: entries [start, start + len), as flat views."""

    name: str
    start: int
    tensors: dict[str, torch.Tensor]  # by KINDS, flat float32, views of the engine's own memory
    write_start: int  # the part that this process writes; replicas share the work
    write_stop: int


def held_state(engine: Engine) -> list[Held]:
    """Return the trained state that this process holds; moments are zero before the first step."""
    if engine.type == DistributedType.FSDP:
        # After a forward without backward some weights are still gathered; the optimizer knows the sharded ones.
        for module in engine.unwrapped.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
    _make_moments(engine)
    if engine.type == DistributedType.DEEPSPEED:
        return list(_held_by_zero(engine))
    return [_held_by_torch(engine, name, parameter) for name, parameter in _trained(engine)]


def stretches(held: list[Held]) -> list[Stretch]:
    """Return the stretches that this process writes."""
    return [
        Stretch(f"{one.name}/{kind}", one.write_start, tensor[one.write_start - one.start : one.write_stop - one.start])
        for one in held
        if one.write_stop > one.write_start
        for kind, tensor in one.tensors.items()
    ]


def restore(engine: Engine, reader: StretchReader, num_updates: int) -> None:
    """Fill the engine's weights, moments and Adam's step counts from a checkpoint.

    Raises:
        CheckpointError: if a parameter is not in the checkpoint in whole.
    """
    with torch.no_grad():
        for one in held_state(engine):
            for kind, tensor in one.tensors.items():
                _fill(reader, f"{one.name}/{kind}", one.start, tensor)
        if engine.type == DistributedType.DEEPSPEED:
            # What the forward pass reads are whole copies beside the partitions of masters.
            for name, parameter in _trained(engine):
                _fill(reader, f"{name}/weight", 0, parameter.data.view(-1))
    for state in _adam(engine).state.values():
        # DeepSpeed's CPU Adam counts with an int, torch's with a tensor.
        state["step"] = state["step"].fill_(num_updates) if torch.is_tensor(state["step"]) else num_updates


def _fill(reader: StretchReader, name: str, start: int, out: torch.Tensor) -> None:
    values = torch.empty(out.shape, dtype=torch.float32)
    reader.fill(name, start, values)
    out.copy_(values)


def trained_shapes(engine: Engine) -> dict[str, list[int]]:
    """Return the whole shape of every trained parameter by name."""
    return {name: list(parameter.shape) for name, parameter in _trained(engine)}


def _trained(engine: Engine) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in engine.unwrapped.named_parameters() if parameter.requires_grad)


def _adam(engine: Engine) -> torch.optim.Optimizer:
    """Return torch's (or DeepSpeed's CPU) Adam; under DeepSpeed it holds flat partitions, not parameters."""
    return engine.model.optimizer.optimizer if engine.type == DistributedType.DEEPSPEED else engine.optimizer


def _make_moments(engine: Engine) -> None:
    """Make Adam's state, which Adam itself makes in its first step, so that it can be saved and loaded before."""
    adam = _adam(engine)
    for parameter in (parameter for group in adam.param_groups for parameter in group["params"]):
        if not adam.state[parameter]:
            step_device = parameter.device if adam.defaults.get("fused") else "cpu"
            is_torch = isinstance(adam, torch.optim.AdamW)
            adam.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=step_device) if is_torch else 0,
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    if engine.type == DistributedType.DEEPSPEED:
        # DeepSpeed links moments to parameters once, after its first group's step, and misses the other groups.
        zero = engine.model.optimizer
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()


def _held_by_zero(engine: Engine) -> Iterator[Held]:
    for name, parameter in _trained(engine):
        fragment = parameter._hp_mapping
        if fragment is None:
            continue
        place = fragment.lp_fragment_address
        tensors = {"weight": fragment.get_hp_fragment()}
        tensors |= {kind: fragment.get_optim_state_fragment(kind) for kind in KINDS[1:]}
        yield Held(name, place.start, tensors, place.start, place.start + place.numel)


def _held_by_torch(engine: Engine, name: str, parameter: torch.nn.Parameter) -> Held:
    state = engine.optimizer.state[parameter]
    whole = {"weight": parameter.detach(), **{kind: state[kind] for kind in KINDS[1:]}}
    if isinstance(parameter, DTensor):
        shape, offset = compute_local_shape_and_global_offset(
            parameter.shape, parameter.device_mesh, parameter.placements
        )
        start = offset[0] * (parameter.numel() // max(1, parameter.shape[0]))
        tensors = {kind: tensor.to_local().view(-1) for kind, tensor in whole.items()}
        numel = torch.Size(shape).numel()
        return Held(name, start, tensors, start, start + numel)
    tensors = {kind: tensor.view(-1) for kind, tensor in whole.items()}
    bounds = [parameter.numel() * rank // engine.num_processes for rank in (engine.rank, engine.rank + 1)]
    return Held(name, 0, tensors, *bounds)
