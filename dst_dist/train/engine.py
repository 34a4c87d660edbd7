"""Configures Accelerate; the only file that tells DDP, DeepSpeed and FSDP2 apart.

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
from accelerate.utils import DistributedType, ProjectConfiguration, patch_environment
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.nn.parallel import DistributedDataParallel

from dst_dist import launched
from dst_dist.config import Recipe
from dst_dist.devices import check_devices, on_cpu
from dst_dist.launch_settings import LAYERS, LaunchSettings, read_launch_settings
from dst_dist.plan.needs import check_offload
from dst_dist.processes import Processes

PATIENCE = timedelta(hours=1)
"""Time that a process waits for another; NCCL's ten minutes are too short while the main one checks all frames."""

READ_BY_ACCELERATE = (
    "ACCELERATE_CONFIG_DS_FIELDS",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
)
"""Variables that Accelerate would read although its arguments say the same."""

_NEVER_FREED: list[Any] = []
"""Keeps the process group alive: Gloo's destructor holds Python's lock while it waits for a thread that may want it,
so a training may hang at its end. For the same reason the program ends without finalizing Python."""


class Engine(Processes):
    """Processes, devices and the steps of an update, with the same calls on every engine.

    Raises:
        ConfigError: if the launcher's settings do not fit the machine or the recipe.
    """

    def __init__(self, recipe: Recipe):
        self.max_grad_norm = recipe.optim.max_grad_norm
        check_devices()
        settings = read_launch_settings(recipe)
        # Accelerate and DeepSpeed would take any GPU that they see.
        device = {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"} if on_cpu() else {}
        with patch_environment(**device):
            self.accelerator = _build_accelerator(settings, on_cpu(), recipe.log.report_to, recipe.output_dir)
        self.type = self.accelerator.distributed_type
        super().__init__(self.accelerator.process_index, self.accelerator.num_processes, self.accelerator.device)

    @property
    def kind(self) -> str:
        """`deepspeed`, `fsdp`, `hsdp`, or `ddp`, which on one process is plain training."""
        return "deepspeed" if self.type == DistributedType.DEEPSPEED else self.launch_file.removesuffix("_no_reshard")

    @property
    def launch_file(self) -> str:
        """The file of launch/ that this engine is set up as, without its ending or `cpu_`."""
        if self.type == DistributedType.DEEPSPEED:
            json = self.accelerator.state.deepspeed_plugin.deepspeed_config
            return "zero2_offload" if _offloads(json) else "zero2"
        if self.accelerator.parallelism_config is not None:
            return "hsdp"
        if self.type == DistributedType.FSDP:
            return "fsdp" if self.accelerator.state.fsdp_plugin.reshard_after_forward else "fsdp_no_reshard"
        return "ddp"

    @property
    def num_sharing(self) -> int:
        """Number of processes that share what this engine shards: all, or with `launch/hsdp.yaml` those of a node."""
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


def _build_accelerator(settings: LaunchSettings, on_cpu: bool, trackers: list[str], folder: str) -> Accelerator:
    # They agree with the recipe, but Accelerate would refuse some beside a JSON file, or take them for its own loop.
    for variable in READ_BY_ACCELERATE:
        os.environ.pop(variable, None)
    project = ProjectConfiguration(project_dir=folder, logging_dir=os.path.join(folder, "tensorboard"))
    # "nccl" is the default. Naming gloo without a launcher would make Accelerate expect several processes.
    backend = "gloo" if on_cpu and settings.engine == "deepspeed" else "nccl"
    shared: dict[str, Any] = {
        "log_with": trackers or None,
        "project_config": project,
        "mixed_precision": "no",
        "kwargs_handlers": [InitProcessGroupKwargs(backend=backend, timeout=PATIENCE)],
    }
    if settings.engine == "deepspeed":
        if on_cpu:
            # DeepSpeed would compile a communication kernel, which takes a compiler and a minute; gloo is enough.
            import deepspeed.ops

            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        elif _offloads(settings.deepspeed):
            check_offload()
        return Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings.deepspeed), **shared)
    if settings.engine == "fsdp":
        return _build_fsdp(settings, on_cpu, shared)
    return Accelerator(cpu=on_cpu, **shared)


def _offloads(json: dict[str, Any]) -> bool:
    """Return whether DeepSpeed's JSON puts the optimizer into host memory."""
    return json["zero_optimization"].get("offload_optimizer", {}).get("device", "none") != "none"


def _build_fsdp(settings: LaunchSettings, on_cpu: bool, shared: dict[str, Any]) -> Accelerator:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=settings.reshards,
        auto_wrap_policy="TRANSFORMER_BASED_WRAP",
        transformer_cls_names_to_wrap=list(LAYERS),
        activation_checkpointing=False,
        state_dict_type="SHARDED_STATE_DICT",
    )
    hybrid = None
    if settings.num_sharing is not None:
        # Accelerate's own use of a mesh that it has made; the results are not affected.
        warnings.filterwarnings("ignore", "Slicing a flattened dim from root mesh", UserWarning)
        num_groups = launched.num_processes() // settings.num_sharing
        hybrid = ParallelismConfig(dp_shard_size=settings.num_sharing, dp_replicate_size=num_groups)
    accelerator = Accelerator(cpu=on_cpu, fsdp_plugin=plugin, parallelism_config=None if on_cpu else hybrid, **shared)
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
