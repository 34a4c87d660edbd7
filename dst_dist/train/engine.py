"""The one place that configures Accelerate and tells DDP, DeepSpeed and FSDP2 apart.

All three average gradients over processes; the loop multiplies its loss by the number of processes, so that the result
is the sum. Functions with a collective say so.
"""

import math
import os
import warnings
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DeepSpeedPlugin, FullyShardedDataParallelPlugin, InitProcessGroupKwargs
from accelerate.parallelism_config import ParallelismConfig
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, ProjectConfiguration
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.nn.parallel import DistributedDataParallel

from dst_dist import launched
from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.plan.needs import check_offload
from dst_dist.processes import Processes

PATIENCE = timedelta(hours=1)
"""How long a process waits for another; NCCL's ten minutes are too short while the main one checks all frames."""

_NEVER_FREED: list[Any] = []
"""Keeps the process group alive: Gloo's destructor holds Python's lock while it waits for a thread that may want it,
and a training hung at its end now and then. For the same reason the program ends without finalizing Python."""


class Engine(Processes):
    """Processes, devices and the steps of an update, with the same calls on every engine.

    Raises:
        ConfigError: if the launcher's settings do not fit the machine or the recipe.
    """

    def __init__(self, recipe: Recipe):
        self.max_grad_norm = recipe.optim.max_grad_norm
        on_cpu = not torch.cuda.is_available()
        processes, gpus = launched.num_node_processes(), torch.cuda.device_count()
        if not on_cpu and processes > gpus:
            raise ConfigError(
                f"{processes} processes were launched on this node, which has {gpus} GPUs; "
                f"pass --num_processes {gpus}, or use a launch/cpu_*.yaml"
            )
        self.accelerator = _build_accelerator(on_cpu, self.max_grad_norm, recipe.log.report_to, recipe.output_dir)
        self.type = self.accelerator.distributed_type
        super().__init__(self.accelerator.process_index, self.accelerator.num_processes, self.accelerator.device)

    @property
    def kind(self) -> str:
        """`deepspeed`, `fsdp`, `hsdp`, or `ddp`, which on one process is plain training."""
        if self.accelerator.parallelism_config is not None:
            return "hsdp"
        return {DistributedType.DEEPSPEED: "deepspeed", DistributedType.FSDP: "fsdp"}.get(self.type, "ddp")

    @property
    def launch_file(self) -> str:
        """The file of launch/ that this engine is set up as, without its ending or `cpu_`."""
        if self.type == DistributedType.DEEPSPEED:
            settings = self.accelerator.state.deepspeed_plugin.deepspeed_config
            return "zero2_offload" if _offloads(settings) else "zero2"
        if self.accelerator.parallelism_config is not None:
            return "hsdp"
        if self.type == DistributedType.FSDP:
            return "fsdp" if self.accelerator.state.fsdp_plugin.reshard_after_forward else "fsdp_no_reshard"
        return "ddp"

    @property
    def num_sharing(self) -> int:
        """How many processes share what this engine shards: all, or with `launch/hsdp.yaml` those of a node."""
        hybrid = self.accelerator.parallelism_config
        return self.num_processes if hybrid is None else hybrid.dp_shard_size

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Wrap model and optimizer for the engine; afterwards use `self.model` and `self.optimizer` (collective)."""
        # FSDP2 shards what each process has; different weights would become a mixture.
        sums = torch.stack([parameter.detach().double().sum() for parameter in model.parameters()]).tolist()
        others = self.gather_objects(sums)
        assert all(other == others[0] for other in others), "processes start from different weights"
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        # Accelerate's optimizer wrapper would skip steps and gradients by its own count of accumulation.
        self.optimizer = getattr(self.optimizer, "optimizer", self.optimizer)

    @property
    def unwrapped(self) -> nn.Module:
        """The model inside the engine's wrapper, with the parameters that the engine updates."""
        return self.accelerator.unwrap_model(self.model)

    def begin_micro_batch(self, is_last: bool) -> None:
        """Tell the engine whether the optimizer step follows; called before the forward, in which DDP reads it."""
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
        """Return the global norm of the averaged gradients before clipping; it may be NaN or infinite (collective).

        Gradients are clipped to `optim.max_grad_norm` here; under DeepSpeed, which owns them, in `step`.
        """
        if self.type == DistributedType.DEEPSPEED:
            norm = float(self.model.optimizer.scaled_global_norm())
            # DeepSpeed returns -1 for a norm that is not finite.
            return norm if norm >= 0 else math.nan
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def step(self) -> None:
        """Update the weights and clear the gradients (collective under DeepSpeed)."""
        if self.type == DistributedType.DEEPSPEED:
            self.model.step()
            return
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def full_state_dict(self, names: set[str]) -> dict[str, torch.Tensor]:
        """Return whole weights by name, these at least, on the main process's host; {} on the others (collective)."""
        if self.type == DistributedType.FSDP:
            # Frozen weights are gathered only if wanted: there may be no room for a second copy of an adapter's base.
            frozen = {name for name, parameter in self.unwrapped.named_parameters() if not parameter.requires_grad}
            whole = {"full_state_dict": True, "cpu_offload": True, "ignore_frozen_params": names.isdisjoint(frozen)}
            return get_model_state_dict(self.model, options=StateDictOptions(**whole))
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


def _build_accelerator(on_cpu: bool, max_grad_norm: float, trackers: list[str], folder: str) -> Accelerator:
    project = ProjectConfiguration(project_dir=folder, logging_dir=os.path.join(folder, "tensorboard"))
    uses_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    # "nccl" is the default. Naming gloo without a launcher would make Accelerate expect several processes.
    group = InitProcessGroupKwargs(backend="gloo" if on_cpu and uses_deepspeed else "nccl", timeout=PATIENCE)
    settings: dict[str, Any] = {"log_with": trackers or None, "project_config": project, "kwargs_handlers": [group]}
    if uses_deepspeed:
        if on_cpu:
            # DeepSpeed would compile a communication kernel, which takes a compiler and a minute; gloo is enough.
            import deepspeed.ops

            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        plugin = DeepSpeedPlugin()
        if not on_cpu and _offloads(plugin.deepspeed_config):
            check_offload()
        _fill_deepspeed(plugin.deepspeed_config, max_grad_norm)
        return Accelerator(deepspeed_plugin=plugin, **settings)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        plugin, hybrid = FullyShardedDataParallelPlugin(), _hybrid_sharding()
        accelerator = Accelerator(
            cpu=on_cpu, fsdp_plugin=plugin, parallelism_config=None if on_cpu else hybrid, **settings
        )
        if on_cpu:
            # Accelerate allows FSDP on GPUs only and would train one model a process; FSDP2 itself runs on gloo.
            for state in (PartialState._shared_state, AcceleratorState._shared_state):
                state["distributed_type"] = DistributedType.FSDP
            AcceleratorState._shared_state["fsdp_plugin"] = plugin
            accelerator.state.fsdp_plugin = plugin
            if hybrid is not None:
                AcceleratorState._shared_state["parallelism_config"] = hybrid
                AcceleratorState._shared_state["device_mesh"] = hybrid.get_device_mesh("cpu")
        return accelerator
    return Accelerator(cpu=on_cpu, **settings)


def _hybrid_sharding() -> ParallelismConfig | None:
    """Return how many processes share the weights and how many such groups there are, if the launch file says so.

    Raises:
        ConfigError: if a node's processes make no whole number of groups.
    """
    # Accelerate would read it by itself, and want the number of groups to be edited with that of processes.
    if os.environ.pop("ACCELERATE_USE_PARALLELISM_CONFIG", "false") != "true":
        return None
    # Accelerate's own use of a mesh that it has made; the results are not affected.
    warnings.filterwarnings("ignore", "Slicing a flattened dim from root mesh", UserWarning)
    sharing, on_node = int(os.environ["PARALLELISM_CONFIG_DP_SHARD_SIZE"]), launched.num_node_processes()
    if sharing < 2 or on_node % sharing:
        raise ConfigError(
            f"{on_node} processes on this node make no groups of {sharing}; pass "
            "--parallelism_config_dp_shard_size with the number of GPUs of a node before -m"
        )
    return ParallelismConfig(dp_shard_size=sharing, dp_replicate_size=launched.num_processes() // sharing)


def _offloads(json: dict[str, Any]) -> bool:
    """Return whether DeepSpeed's JSON puts the optimizer into host memory."""
    return json.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none") != "none"


def _fill_deepspeed(json: dict[str, Any], max_grad_norm: float) -> None:
    """Write the recipe's clipping into DeepSpeed's JSON, the only place it clips by.

    Raises:
        ConfigError: if the JSON itself sets precision, clipping, or another stage than 1 or 2.
    """
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
