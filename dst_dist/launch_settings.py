"""Compares what the launcher and the environment say about a training with the recipe. Imports nothing slow.

Accelerate hands its flags and its file to the processes as environment variables. They are read here and nowhere else:
those that agree with the recipe are used, the others are refused.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dst_dist import launched
from dst_dist.config import Recipe
from dst_dist.deepspeed_settings import read_deepspeed
from dst_dist.errors import ConfigError

STARTED_BY_OTHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables in which mpirun and srun say how many processes they started. Accelerate reads some, and waits for all."""
RANKS = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher says besides WORLD_SIZE."""
LAYERS = ("SmolVLMEncoderLayer", "LlamaDecoderLayer")
"""The classes that FSDP2 shards one by one."""


@dataclass(frozen=True)
class LaunchSettings:
    """Decisions of a launcher: the engine and what it shards."""

    engine: Literal["ddp", "deepspeed", "fsdp"]
    deepspeed: dict[str, Any]
    """DeepSpeed's JSON, complete; empty for another engine."""
    reshards: bool
    """FSDP2: whether weights are sharded again after a forward."""
    num_sharing: int | None
    """FSDP2: how many processes share the weights, if not all of them do."""


class Rule(NamedTuple):
    """The values of a variable that agree with the recipe, as `_plain` writes them, and the remedy for others."""

    agree: tuple[object, ...]
    remedy: str


FREE = {
    "ACCELERATE_USE_CPU",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
    "ACCELERATE_DEEPSPEED_CONFIG_FILE",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE",
    "ACCELERATE_CONFIG_DS_FIELDS",
    "PARALLELISM_CONFIG_DP_SHARD_SIZE",
    # The number of replicas follows from the processes.
    "PARALLELISM_CONFIG_DP_REPLICATE_SIZE",
    # No training depends on these.
    "ACCELERATE_CPU_AFFINITY",
    "ACCELERATE_DEBUG_MODE",
    "ACCELERATE_LOG_LEVEL",
    "ACCELERATE_ENABLE_RICH",
    "ACCELERATE_DISABLE_RICH",
    "FSDP_BACKWARD_PREFETCH",
    "FSDP_MIN_NUM_PARAMS",
    "FSDP_STATE_DICT_TYPE",
    "FSDP_SYNC_MODULE_STATES",
    "PARALLELISM_CONFIG_CP_BACKEND",
    "PARALLELISM_CONFIG_SP_BACKEND",
    # These say how, and other variables whether: compiling, and ZeRO-3.
    "ACCELERATE_DYNAMO_MODE",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH",
    "ACCELERATE_DYNAMO_USE_DYNAMIC",
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL",
}
"""Variables that are read below or in `deepspeed_settings`, and those that do not affect training."""

OFF = ("", "no", "none", "false", 0.0)
"""Values of any other variable that ask for nothing."""

RULES = {
    "ACCELERATE_DYNAMO_BACKEND": Rule(("no",), "the recipe's train.compile decides; remove it"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": Rule(
        ("auto", 1.0), "the recipe's train.global_batch_size decides; remove it"
    ),
    "ACCELERATE_USE_MEGATRON_LM": Rule(OFF, "Megatron-LM is not an engine here; use a file of launch/"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": Rule(OFF, "remove parallelism_config, or use launch/hsdp.yaml"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": Rule(
        ("none",), "ZeRO-2 keeps weights on the device; remove it, or use launch/fsdp.yaml to shard them"
    ),
    "FSDP_VERSION": Rule((2.0,), "set fsdp_version to 2, as launch/fsdp.yaml does"),
    "FSDP_AUTO_WRAP_POLICY": Rule(
        ("transformer_based_wrap",), "set fsdp_auto_wrap_policy to TRANSFORMER_BASED_WRAP, as launch/fsdp.yaml does"
    ),
    "FSDP_TRANSFORMER_CLS_TO_WRAP": Rule(
        (*OFF, ",".join(sorted(LAYERS)).lower()), f"set it to {','.join(LAYERS)}, or remove it"
    ),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": Rule(
        OFF, "every process loads the weights; set fsdp_cpu_ram_efficient_loading to false"
    ),
    "FSDP_OFFLOAD_PARAMS": Rule(
        OFF, "set it to false; launch/zero2_offload.yaml keeps the optimizer state in host memory"
    ),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": Rule(OFF, "activations stay on the device; set it to false"),
    "FSDP_SHARDING_STRATEGY": Rule(
        ("full_shard", "none", 1.0),
        "this is FSDP2: say fsdp_reshard_after_forward, or use launch/hsdp.yaml to shard within a node",
    ),
    "FSDP_USE_ORIG_PARAMS": Rule(("true",), "FSDP2 always does; remove it"),
    "FSDP_FORWARD_PREFETCH": Rule(OFF, "FSDP2 does it by itself; remove it"),
    "FSDP_RESHARD_AFTER_FORWARD": Rule(("true", "false"), "FSDP2 takes true or false"),
    "TORCHELASTIC_MAX_RESTARTS": Rule(
        OFF, "it would start again what was stopped or refused; remove it, the same command continues a run"
    ),
}
"""Rules that hold for any recipe."""

UNSET = {
    "FSDP_AUTO_WRAP_POLICY": "NO_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_VERSION": "1",
    "PARALLELISM_CONFIG_DP_SHARD_SIZE": "1",
}
"""Accelerate's defaults of variables that are not set."""

FLAGS = {
    "TORCHELASTIC_MAX_RESTARTS": "max_restarts",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "fsdp_transformer_layer_cls_to_wrap",
    "ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES": "deepspeed_moe_layer_cls_names",
}
"""Names of settings that do not follow from the variable's."""


def read_launch_settings(recipe: Recipe) -> LaunchSettings:
    """Return the launcher's settings.

    Raises:
        ConfigError: with every setting that contradicts the recipe, or is not supported.
    """
    environment, faults = {**UNSET, **os.environ}, []
    engine = _engine(environment)
    rules = _rules(recipe)
    for variable in sorted(_relevant(environment, engine)):
        rule = rules.get(variable, _rule_of_unknown(variable))
        if _plain(environment[variable]) not in rule.agree:
            faults.append(f"{_flag(variable)} is {environment[variable]} ({variable}): {rule.remedy}")
    # As the launcher does for CPUs.
    if launched.is_by_accelerate() and "WORLD_SIZE" not in environment and "MASTER_ADDR" in environment:
        faults.append(
            "num_processes is over 1, but one was started, as for --cpu and MULTI_CPU: use launch/cpu_ddp.yaml"
        )
    _check_ranks(environment, faults)
    num_sharing = None
    if engine == "fsdp" and _is_true(environment, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        num_sharing = _num_sharing(environment.get("PARALLELISM_CONFIG_DP_SHARD_SIZE", "1"), faults)
    deepspeed = read_deepspeed(environment, recipe.optim.max_grad_norm, faults) if engine == "deepspeed" else {}
    if faults:
        raise ConfigError([f"accelerate launch: {fault}" for fault in faults])
    return LaunchSettings(engine, deepspeed, _is_true(environment, "FSDP_RESHARD_AFTER_FORWARD"), num_sharing)


def _rules(recipe: Recipe) -> dict[str, Rule]:
    """Return RULES, and those that the recipe's values decide."""
    precision, norm = recipe.train.precision, recipe.optim.max_grad_norm
    checkpoints = ("true", "false") if recipe.train.gradient_checkpointing is True else ("false",)
    return RULES | {
        "ACCELERATE_MIXED_PRECISION": Rule(
            ("no", precision), f"the recipe has train.precision={precision}; change one of them, or leave it at no"
        ),
        "ACCELERATE_GRADIENT_CLIPPING": Rule(
            ("auto", float(norm)), f"the recipe has optim.max_grad_norm={norm:g}; change one of them"
        ),
        "ACCELERATE_TORCH_DEVICE": Rule(
            ("cpu",) if launched.wants_cpu() else (), "unset it; use a launch/cpu_*.yaml to train on the CPU"
        ),
        "FSDP_ACTIVATION_CHECKPOINTING": Rule(
            checkpoints, "the recipe decides: set train.gradient_checkpointing=true there"
        ),
    }


def _rule_of_unknown(variable: str) -> Rule:
    """Return the rule of a variable that Accelerate may have gained; a degree of parallelism of 1 asks for nothing."""
    return Rule((*OFF, 1.0) if variable.endswith("_SIZE") else OFF, "it is not supported here; remove it")


def _engine(environment: Mapping[str, str]) -> Literal["ddp", "deepspeed", "fsdp"]:
    if _is_true(environment, "ACCELERATE_USE_DEEPSPEED"):
        return "deepspeed"
    return "fsdp" if _is_true(environment, "ACCELERATE_USE_FSDP") else "ddp"


def _relevant(environment: Mapping[str, str], engine: str) -> set[str]:
    """Return the variables that affect training with this engine and are not FREE."""
    prefixes = ["ACCELERATE_", "TORCHELASTIC_MAX_RESTARTS"]
    if engine == "fsdp":
        prefixes.append("FSDP_")
    if _is_true(environment, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        prefixes.append("PARALLELISM_CONFIG_")
    found = {variable for variable in environment if variable.startswith(tuple(prefixes))} - FREE
    if engine != "fsdp" and _is_true(environment, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        found.add("ACCELERATE_USE_PARALLELISM_CONFIG")
    # How fp8 is done; whether it is, mixed_precision says.
    return {variable for variable in found if not variable.startswith("ACCELERATE_FP8_")}


def _check_ranks(environment: Mapping[str, str], faults: list[str]) -> None:
    """Add a fault if several processes were started without ranks: each would train alone, or wait for ever."""
    size = environment.get("WORLD_SIZE", "1")
    lacking = [variable for variable in RANKS if variable not in environment]
    if size != "1" and lacking:
        faults.append(
            f"WORLD_SIZE is {size}, but {', '.join(lacking)} are not set; let accelerate launch start the processes, "
            "or set all of them, or none"
        )
    for variable in STARTED_BY_OTHERS if "WORLD_SIZE" not in environment else ():
        if environment.get(variable, "1") != "1":
            faults.append(
                f"{variable} is {environment[variable]}: mpirun or srun started several processes, without ranks; let "
                "it start one accelerate launch on each node, which starts the others, or unset the variable"
            )


def _num_sharing(value: str, faults: list[str]) -> int:
    """Return how many processes share the weights; a fault if a node's processes make no whole number of groups."""
    sharing, on_node = int(value) if value.isdecimal() else 0, launched.num_node_processes()
    if not makes_groups(on_node, sharing):
        faults.append(
            f"{on_node} processes on this node make no groups of {value}; pass "
            "--parallelism_config_dp_shard_size with the number of GPUs of a node before -m"
        )
    return sharing


def makes_groups(num_processes: int, num_sharing: int) -> bool:
    """Return whether processes make a whole number of groups of `num_sharing` that share weights."""
    return num_sharing >= 2 and num_processes % num_sharing == 0


def _is_true(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "false").lower() == "true"


def _flag(variable: str) -> str:
    """Return the name of a setting as in Accelerate's file and flags."""
    return FLAGS.get(variable, variable.removeprefix("ACCELERATE_").removeprefix("DEEPSPEED_").lower())


def _plain(value: str) -> object:
    """Return a number as a float, and words in lower case, without spaces and in one order."""
    try:
        return float(value)
    except ValueError:
        return ",".join(sorted(word.strip().lower() for word in value.split(",")))
