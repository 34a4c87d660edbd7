"""Completes DeepSpeed's JSON for a training, from the file that the launcher names or Accelerate's own settings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dst_dist import launched

OWN = {
    "train_micro_batch_size_per_gpu": 1,
    "gradient_accumulation_steps": 1,
    "steps_per_print": 1_000_000_000,
    "zero_allow_untested_optimizer": True,
}
"""Settings of every training: the loop packs micro-batches and counts them by itself. The optimizer is torch's."""
OWN_ZERO = {
    "stage": 2,
    "reduce_bucket_size": 50_000_000,
    "allgather_bucket_size": 50_000_000,
    "overlap_comm": True,
    "contiguous_gradients": True,
}
"""Defaults of ds_configs/zero2.json, where the file says nothing or `auto`."""

BY_RECIPE = {
    "bf16": "train.precision",
    "fp16": "train.precision",
    "torch_autocast": "train.precision",
    "amp": "train.precision",
    "optimizer": "optim",
    "scheduler": "optim",
    "train_batch_size": "train.global_batch_size",
    "train_micro_batch_size_per_gpu": "train.max_tokens",
    "gradient_accumulation_steps": "train.global_batch_size",
    "gradient_clipping": "optim.max_grad_norm",
    "activation_checkpointing": "train.gradient_checkpointing",
}
"""Keys that the recipe decides, and the recipe's key for each."""
FREE = {
    "checkpoint",
    "comms_logger",
    "dump_state",
    "flops_profiler",
    "memory_breakdown",
    "steps_per_print",
    "wall_clock_breakdown",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "zero_optimization",
}
"""Keys that change no result."""
FREE_ZERO = {
    *OWN_ZERO,
    "allgather_partitions",
    "ignore_unused_parameters",
    "offload_optimizer",
    "offload_param",
    "reduce_scatter",
    "round_robin_gradients",
    "sub_group_size",
}
"""Keys of the section `zero_optimization` that change no result; `stage3_...` has no effect in ZeRO-2."""


def read_deepspeed(environment: Mapping[str, str], max_grad_norm: float, faults: list[str]) -> dict[str, Any]:
    """Return DeepSpeed's settings, with the recipe's clipping, and `auto` replaced by what it stands for here.

    Args:
        environment: the launcher's variables.
        faults: gains what contradicts the recipe or cannot be done; then the settings must not be used.
    """
    settings = _without_auto(_read(environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none"), faults))
    agreed = {**OWN, "gradient_clipping": max_grad_norm}
    # DeepSpeed's own CPU Adam is compiled; a CPU does without.
    settings.setdefault("zero_force_ds_cpu_optimizer", not launched.wants_cpu())
    for key, value in settings.items():
        if key in BY_RECIPE and value != agreed.get(key):
            faults.append(f"DeepSpeed JSON: remove {key}; the recipe's {BY_RECIPE[key]} decides")
        elif key not in BY_RECIPE and key not in FREE:
            faults.append(f"DeepSpeed JSON: remove {key}; it is not supported here")
    zero = {**OWN_ZERO, **_section(settings, "zero_optimization", faults)}
    _check_zero(zero, environment, faults)
    return settings | agreed | {"zero_optimization": zero}


def _read(file: str, faults: list[str]) -> dict[str, Any]:
    """Return the content of the file; {} without one."""
    if file == "none":
        return {}
    try:
        settings = json.loads(Path(file).read_text(encoding="utf-8"))
        if isinstance(settings, dict):
            return settings
        fault = "must hold a JSON object"
    except FileNotFoundError:
        fault = "no such file from here; start from the repository's root"
    except (OSError, ValueError) as error:
        fault = f"cannot be read as JSON: {error}"
    faults.append(f"deepspeed_config_file {file}: {fault}")
    return {}


def _without_auto(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without those that are `auto`, null or off, nor sections that are left empty by that."""
    kept = {key: _without_auto(value) if isinstance(value, dict) else value for key, value in settings.items()}
    off = [key for key, value in kept.items() if isinstance(value, dict) and value.get("enabled", True) is False]
    return {key: value for key, value in kept.items() if value not in ("auto", None, {}) and key not in off}


def _check_zero(zero: dict[str, Any], environment: Mapping[str, str], faults: list[str]) -> None:
    """Add to `faults` what differs from Accelerate's own settings, which complete the section, or is not supported."""
    for key in sorted(zero.keys() - FREE_ZERO):
        if not key.startswith("stage3_"):
            faults.append(f"DeepSpeed JSON: remove zero_optimization.{key}; it is not supported here")
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(zero["stage"]))
    if stage not in ("1", "2"):
        faults.append(f"zero_stage is {stage}: it must be 1 or 2; to shard weights use launch/fsdp.yaml")
    device = str(_section(zero, "offload_optimizer", faults).get("device", "none"))
    offload = environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", device)
    if offload not in ("none", "cpu"):
        faults.append(f"offload_optimizer_device is {offload}: it must be none or cpu")
    if _section(zero, "offload_param", faults).get("device", "none") != "none":
        faults.append("DeepSpeed JSON: remove zero_optimization.offload_param; launch/fsdp.yaml shards weights")
    if environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none") == "none":
        zero |= {"stage": int(stage) if stage.isdigit() else stage, "offload_optimizer": {"device": offload}}
    elif (stage, offload) != (str(zero["stage"]), device):
        faults.append(
            f"zero_stage {stage} and offload_optimizer_device {offload} are not those of the DeepSpeed JSON, "
            f"{zero['stage']} and {device}: say it there alone"
        )


def _section(settings: Mapping[str, Any], name: str, faults: list[str]) -> dict[str, Any]:
    """Return a section, empty without one; a fault if it is no object, which would be passed over."""
    section = settings.get(name, {})
    if isinstance(section, dict):
        return section
    faults.append(f"DeepSpeed JSON: {name} must be an object, found {json.dumps(section)}")
    return {}
