"""Reads and sets the state of a process for checkpoints: weights and Adam moments by name, and random state.

DDP has whole tensors on every process, FSDP2 rows of them, ZeRO-2 stretches of flat partitions. All three are
contiguous stretches of the flattened parameter, the form that checkpoints have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from dst_dist.train.engine import Engine
from dst_dist.train.state_files import Stretch, StretchReader

KINDS = ("weight", "exp_avg", "exp_avg_sq")
"""The float32 weight and both of Adam's moments (Kingma and Ba, 2015)."""


@dataclass
class Held:
    """The part of one trained parameter that this process holds: entries [start, start + len) of the flattened one."""

    name: str
    start: int
    tensors: dict[str, torch.Tensor]  # by KINDS; flat float32 views of the engine's own memory
    write_start: int  # this process writes [write_start, write_stop): replicas share the work
    write_stop: int


def held_state(engine: Engine) -> list[Held]:
    """Return the state of all trained parameters on this process; before the first step its moments are zeros."""
    if engine.type == DistributedType.FSDP:
        # After a forward without backward some weights are still gathered; the optimizer has the sharded ones.
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
        Stretch(f"{part.name}/{kind}", part.write_start, tensor[part.write_start - part.start :][:length])
        for part in held
        if (length := part.write_stop - part.write_start)
        for kind, tensor in part.tensors.items()
    ]


def restore(engine: Engine, reader: StretchReader, num_updates: int) -> None:
    """Fill the engine's weights, moments and Adam's step counts from a checkpoint.

    Raises:
        CheckpointError: if some entries of a parameter are not in the checkpoint.
    """
    with torch.no_grad():
        for part in held_state(engine):
            for kind, tensor in part.tensors.items():
                _fill(reader, f"{part.name}/{kind}", part.start, tensor)
        if engine.type == DistributedType.DEEPSPEED:
            # The forward pass reads whole copies, not the partitions of the masters.
            for name, parameter in _trained(engine):
                _fill(reader, f"{name}/weight", 0, parameter.data.view(-1))
    for state in _adam(engine).state.values():
        # DeepSpeed's CPU Adam counts with an int, torch's with a tensor.
        state["step"] = state["step"].fill_(num_updates) if torch.is_tensor(state["step"]) else num_updates


def _fill(reader: StretchReader, name: str, start: int, out: torch.Tensor) -> None:
    """Read float32 values on the host, then copy them to the device and dtype of `out`."""
    values = torch.empty(out.shape, dtype=torch.float32)
    reader.fill(name, start, values)
    out.copy_(values)


def trained_shapes(engine: Engine) -> dict[str, list[int]]:
    """Return name -> whole shape of every trained parameter."""
    return {name: list(parameter.shape) for name, parameter in _trained(engine)}


def _trained(engine: Engine) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in engine.unwrapped.named_parameters() if parameter.requires_grad)


def _adam(engine: Engine) -> torch.optim.Optimizer:
    """Return torch's (or DeepSpeed's CPU) Adam; under DeepSpeed it holds flat partitions, not parameters."""
    return engine.model.optimizer.optimizer if engine.type == DistributedType.DEEPSPEED else engine.optimizer


def forget_moments(engine: Engine) -> None:
    """Set Adam's moments and step counts to zero, as before the first step."""
    for state in _adam(engine).state.values():
        for key, value in state.items():
            state[key] = value.zero_() if torch.is_tensor(value) else 0


def _make_moments(engine: Engine) -> None:
    """Create Adam's state where it is missing: Adam itself creates it in the first step."""
    adam = _adam(engine)
    is_torch = isinstance(adam, torch.optim.AdamW)
    for parameter in (parameter for group in adam.param_groups for parameter in group["params"]):
        if not adam.state[parameter]:
            step_device = parameter.device if adam.defaults.get("fused") else "cpu"
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
    whole = {"weight": parameter.detach(), **{kind: engine.optimizer.state[parameter][kind] for kind in KINDS[1:]}}
    if isinstance(parameter, DTensor):
        _, offset = compute_local_shape_and_global_offset(parameter.shape, parameter.device_mesh, parameter.placements)
        start = offset[0] * (parameter.numel() // parameter.shape[0])
        tensors = {kind: tensor.to_local().view(-1) for kind, tensor in whole.items()}
        return Held(name, start, tensors, *_share_of(len(tensors["weight"]), start, *_replica(parameter)))
    tensors = {kind: tensor.view(-1) for kind, tensor in whole.items()}
    return Held(name, 0, tensors, *_share_of(parameter.numel(), 0, engine.rank, engine.num_processes))


def _replica(parameter: DTensor) -> tuple[int, int]:
    """Return the number of this process among those that hold the same rows, and how many these are.

    With hybrid sharding each node has one of them.
    """
    mesh, index, count = parameter.device_mesh, 0, 1
    for dim, placement in enumerate(parameter.placements):
        if placement.is_replicate():
            index, count = index * mesh.size(dim) + mesh.get_local_rank(dim), count * mesh.size(dim)
    return index, count


def _share_of(length: int, start: int, replica: int, num_replicas: int) -> tuple[int, int]:
    """Return the entries [begin, end) that one of several holders of [start, start + length) writes."""
    return start + length * replica // num_replicas, start + length * (replica + 1) // num_replicas


def random_state(device: torch.device) -> list[Stretch]:
    """Return the state of torch's generators, the only ones that training draws from."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return [Stretch(name, 0, values) for name, values in states.items()]


def set_random_state(file: Path, device: torch.device) -> None:
    """Restore the state that `random_state` returned; a file written on a CPU has none for a GPU."""
    states = load_file(file)
    torch.set_rng_state(states["torch@0"])
    if device.type == "cuda" and "cuda@0" in states:
        torch.cuda.set_rng_state(states["cuda@0"], device)
