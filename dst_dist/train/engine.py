"""The one place that configures Accelerate and knows DDP, DeepSpeed and FSDP2 apart.

Gradients are averaged over processes by all three; the loop scales its loss by the number of processes
so that the sum over processes is what arrives. Functions that hold a collective say so.
"""

import math
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedType,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
)
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.nn.parallel import DistributedDataParallel

from dst_dist import launched
from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.processes import Processes

PATIENCE = timedelta(hours=1)
"""How long a process waits for another: NCCL's ten minutes are too short where one process looks at all frames."""

_NEVER_FREED: list[Any] = []
"""Gloo's destructor holds Python's lock and waits for a thread that may wait for it: now and then a training hung
at its end. So the group is kept, and the program leaves without finalizing Python."""


class Engine(Processes):
    """Runs the steps of an update alike on every engine.

    Raises:
        ConfigError: if the launcher's settings do not fit the machine or the recipe.
    """

    def __init__(self, recipe: Recipe):
        self.max_grad_norm = recipe.optim.max_grad_norm
        on_cpu = not torch.cuda.is_available()
        _check_launch(on_cpu)
        if on_cpu and os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            _keep_deepspeed_simple()
        self.accelerator = _build_accelerator(on_cpu, self.max_grad_norm, recipe.log.report_to, recipe.output_dir)
        self.type = self.accelerator.distributed_type
        super().__init__(self.accelerator.process_index, self.accelerator.num_processes, self.accelerator.device)

    @property
    def kind(self) -> str:
        """Return `deepspeed`, `fsdp`, or `ddp`, which on one process is plain training."""
        return {DistributedType.DEEPSPEED: "deepspeed", DistributedType.FSDP: "fsdp"}.get(self.type, "ddp")

    @property
    def name(self) -> str:
        """Return the kind and the number of processes, for logs."""
        return f"{self.kind} on {self.num_processes} x {self.device.type}"

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Wrap model and optimizer for the engine; afterwards use `self.model` and `self.optimizer` (collective)."""
        self._check_same_weights(model)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        # Accelerate's optimizer wrapper would skip steps and gradients by its own idea of accumulation.
        self.optimizer = getattr(self.optimizer, "optimizer", self.optimizer)

    def _check_same_weights(self, model: nn.Module) -> None:
        """Assert that all processes have the same weights: FSDP2 would shard a mixture of them (collective)."""
        sums = torch.stack([parameter.detach().double().sum() for parameter in model.parameters()]).tolist()
        others = self.gather_objects(sums)
        assert all(other == others[0] for other in others), "processes start from different weights"

    @property
    def unwrapped(self) -> nn.Module:
        """Return the model inside the engine's wrapper; its parameters are what the engine updates."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups, in which the learning rate is set."""
        return self.optimizer.param_groups

    def begin_micro_batch(self, is_last: bool) -> None:
        """Tell the engine whether the optimizer step follows this micro-batch; before its forward, where DDP looks."""
        if self.type == DistributedType.DEEPSPEED:
            self.model.set_gradient_accumulation_boundary(is_last)
        elif self.type == DistributedType.FSDP:
            self.model.set_requires_gradient_sync(is_last)
            self.model.set_is_last_backward(is_last)
        elif isinstance(self.model, DistributedDataParallel):
            self.model.require_backward_grad_sync = is_last

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate gradients; the last micro-batch of a step averages them over processes (collective)."""
        if self.type == DistributedType.DEEPSPEED:
            self.model.backward(loss, scale_wrt_gas=False)
        else:
            loss.backward()

    def gradient_norm(self) -> float:
        """Return the norm of the averaged gradients before clipping; not finite if a gradient is not (collective).

        Gradients are clipped to `optim.max_grad_norm` here, or in `step` under DeepSpeed, which owns them.
        """
        if self.type == DistributedType.DEEPSPEED:
            norm = float(self.model.optimizer.scaled_global_norm())
            # DeepSpeed writes -1 for a norm that is not finite.
            return norm if norm >= 0 else math.nan
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def step(self) -> None:
        """Update the weights and forget the gradients (collective under DeepSpeed)."""
        if self.type == DistributedType.DEEPSPEED:
            self.model.step()
            return
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def full_state_dict(self, names: set[str]) -> dict[str, torch.Tensor]:
        """Return at least these whole weights by name on the main process, nothing on the others (collective)."""
        if self.type == DistributedType.FSDP:
            # Frozen ones are gathered only where they are wanted: an adapter's base may be all there is room for.
            frozen = {name for name, parameter in self.unwrapped.named_parameters() if not parameter.requires_grad}
            options = StateDictOptions(
                full_state_dict=True, cpu_offload=True, ignore_frozen_params=names.isdisjoint(frozen)
            )
            return get_model_state_dict(self.model, options=options)
        if not self.is_main:
            return {}
        return {name: tensor.cpu() for name, tensor in self.unwrapped.state_dict().items() if name in names}

    def wait(self) -> None:
        """Wait for every process (collective)."""
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """End trackers and the process group (collective)."""
        if dist.is_initialized():
            _NEVER_FREED.append(dist.group.WORLD)
        self.accelerator.end_training()


def _keep_deepspeed_simple() -> None:
    """Keep DeepSpeed from compiling a communication kernel on a CPU, which takes a minute; gloo is enough."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _check_launch(on_cpu: bool) -> None:
    processes = launched.num_node_processes()
    if not on_cpu and processes > torch.cuda.device_count():
        raise ConfigError(
            f"{processes} processes were launched on this node, which has {torch.cuda.device_count()} GPUs; "
            f"pass --num_processes {torch.cuda.device_count()}, or use a launch/cpu_*.yaml"
        )


def _build_accelerator(on_cpu: bool, max_grad_norm: float, trackers: list[str], folder: str) -> Accelerator:
    project = ProjectConfiguration(project_dir=folder, logging_dir=os.path.join(folder, "tensorboard"))
    uses_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    # A process without a launcher must name no backend: Accelerate would take it for one of several.
    group = InitProcessGroupKwargs(backend="gloo" if on_cpu and uses_deepspeed else "nccl", timeout=PATIENCE)
    settings: dict[str, Any] = {"log_with": trackers or None, "project_config": project, "kwargs_handlers": [group]}
    if uses_deepspeed:
        plugin = DeepSpeedPlugin()
        _fill_deepspeed(plugin.deepspeed_config, max_grad_norm)
        return Accelerator(deepspeed_plugin=plugin, **settings)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        plugin = FullyShardedDataParallelPlugin()
        accelerator = Accelerator(cpu=on_cpu, fsdp_plugin=plugin, **settings)
        return _fsdp_on_cpu(accelerator, plugin) if on_cpu else accelerator
    return Accelerator(cpu=on_cpu, **settings)


def _fill_deepspeed(json: dict[str, Any], max_grad_norm: float) -> None:
    """Write the recipe's clipping into DeepSpeed's JSON, which alone it reads; raise ConfigError for another."""
    precision = [key for key in ("bf16", "fp16", "torch_autocast") if json.get(key, {}).get("enabled", False)]
    if precision:
        raise ConfigError(f"DeepSpeed JSON: remove {', '.join(precision)}; precision is the recipe's train.precision")
    if json.get("zero_optimization", {}).get("stage") not in (1, 2):
        raise ConfigError(
            "DeepSpeed JSON: zero_optimization.stage must be 1 or 2; to shard weights use launch/fsdp.yaml"
        )
    if json.get("gradient_clipping", "auto") not in ("auto", max_grad_norm):
        raise ConfigError("DeepSpeed JSON: remove gradient_clipping; the recipe's optim.max_grad_norm decides")
    json["gradient_clipping"] = max_grad_norm


def _fsdp_on_cpu(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> Accelerator:
    """Switch FSDP on: Accelerate keeps it for GPUs and would train a model per process; FSDP2 runs on gloo."""
    for state in (PartialState._shared_state, AcceleratorState._shared_state):
        state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    accelerator.state.fsdp_plugin = plugin
    return accelerator
