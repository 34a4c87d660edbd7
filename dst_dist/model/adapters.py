"""Adapters: whether one stands on the base it was trained on, and whether a recipe can go on with it."""

import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from peft import LoraConfig
from transformers import PreTrainedConfig

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.smolvlm_dst import HEAD_NAMES, SmolVLMForDST

_RECIPE_KEYS = {"r": "rank", "lora_alpha": "alpha", "target_modules": "target_modules"}
_FROM_RECIPE = ("base_model_name_or_path", "lora_dropout", "inference_mode", "task_type")
"""What may differ without changing what the adapter computes, and is the recipe's."""
_FROM_ADAPTER = (
    "init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "auto_mapping", "peft_version", "revision", "megatron_core",
)  # fmt: skip
"""What may differ, and stays the adapter's: peft's own notes, and the way its first weights were made. PiSSA's and
OLoRA's took a part out of the base, and injecting takes it out again."""

_REPEATABLE = (True, False, "gaussian", "orthogonal", "eva", "pissa", "olora")
"""Ways of making first weights that leave the base as it is, or change it by its own weights alone."""


def check_repeatable(folder: str, adapter: LoraConfig) -> None:
    """Raise CheckpointError for an adapter on a changed base that its config cannot make again."""
    way = adapter.init_lora_weights
    if way not in _REPEATABLE:
        raise CheckpointError(
            f"{folder}: init_lora_weights is {way}, which changed the base in a way that nobody can repeat; let peft convert "
            "the adapter to a plain one (save_pretrained with path_initial_model_for_weight_conversion)"
        )


def continued_config(adapter: LoraConfig, wanted: LoraConfig) -> LoraConfig:
    """The config for going on with `adapter`, its own, under a recipe that would make `wanted` anew.

    Raises:
        ConfigError: for every field that shapes what the adapter computes and differs.
    """
    free = {*_FROM_RECIPE, *_FROM_ADAPTER, "modules_to_save"}
    fields = [name for name in wanted.to_dict() if name not in free]
    faults = [_difference(name, adapter, wanted) for name in fields if _differ(name, adapter, wanted)]
    if faults:
        raise ConfigError(faults)
    config = copy.deepcopy(adapter)
    for name in _FROM_RECIPE:
        setattr(config, name, getattr(wanted, name))
    # A connector that was trained before and is frozen now is still part of the adapter.
    config.modules_to_save = sorted({*(adapter.modules_to_save or ()), *wanted.modules_to_save})
    return config


def _differ(name: str, adapter: LoraConfig, wanted: LoraConfig) -> bool:
    """Whether a field does; None, empty and False all mean that a thing is not there."""
    return (getattr(adapter, name) or None) != (getattr(wanted, name) or None)


def _difference(name: str, adapter: LoraConfig, wanted: LoraConfig) -> str:
    ours, theirs = getattr(wanted, name), getattr(adapter, name)
    if name in _RECIPE_KEYS:
        return (
            f"finetune.lora.{_RECIPE_KEYS[name]}: {ours} differs from the adapter's {theirs}; "
            "set it so, or start from the base model"
        )
    return (
        f"finetune.mode: lora cannot go on with this adapter: its {name} is {theirs}, the recipe's adapters have {ours}; "
        "set finetune.mode: full, which merges it into its base, or start from the base model"
    )


# The base


def base_digest(base: SmolVLMForDST) -> str:
    """Hex, of every weight but the heads, which are an adapter's own. For a base as loaded, in float32: dtypes of
    training and PiSSA change it.

    Every byte is read, since a base may differ by a few rows of its embeddings. sha256 makes 1 to 2 GB/s a thread and
    lets other threads run: seconds for the 2.2B.
    """
    weights = {name: tensor for name, tensor in base.state_dict().items() if name.split(".")[0] not in HEAD_NAMES}
    with ThreadPoolExecutor() as threads:
        parts = threads.map(tensor_digest, weights, weights.values())
    return hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()


def saved_base_digest(folder: str) -> str | None:
    """That of the base which the adapter in `folder` was trained on; None of plain peft's adapters."""
    return PreTrainedConfig.get_config_dict(folder)[0].get("base_digest")


def check_base(folder: str, place: str, base: SmolVLMForDST) -> None:
    """Raise CheckpointError if `base`, loaded from `place`, is not what the adapter in `folder` was trained on."""
    earlier = saved_base_digest(folder)
    if earlier is not None and earlier != base_digest(base):
        raise CheckpointError(
            f"{folder}: its base {place} holds other weights than it was trained on; put those back, or name the folder "
            f"that has them as base_model_name_or_path in {folder}/adapter_config.json"
        )


def tensor_digest(name: str, tensor: torch.Tensor) -> str:
    """Hex, of a tensor's name, shape and bytes."""
    digest = hashlib.sha256(f"{name} {list(tensor.shape)}".encode())
    digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
