"""The recipe's LoRA: its config, and whether an earlier adapter can go on under it."""

import copy
import re

from peft import LoraConfig
from torch import nn

from dst_dist.config import Lora, Recipe
from dst_dist.errors import ConfigError
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.smolvlm_dst import SmolVLMForDST

RECIPE_KEYS = {"r": "rank", "lora_alpha": "alpha", "target_modules": "target_modules"}
FROM_RECIPE = ("base_model_name_or_path", "lora_dropout", "inference_mode", "task_type")
"""Fields that may differ, because they do not change what the adapter computes; the recipe's value is used."""
FROM_ADAPTER = ("init_lora_weights", "auto_mapping", "peft_version", "revision")
"""Fields that may differ, because they are notes about how the adapter was made; the adapter's value stays."""


def lora_config(recipe: Recipe, base: SmolVLMForDST, base_name: str) -> LoraConfig:
    """Return the peft config of the recipe's adapter: LoRA on the text model, heads (and connector, tower) in full.

    Raises:
        ConfigError: if the text model has no such target modules.
    """
    finetune = recipe.finetune
    trained = {"connector": finetune.train.connector, "vision_model": finetune.train.vision}
    return LoraConfig(
        base_model_name_or_path=base_name,
        r=finetune.lora.rank,
        lora_alpha=finetune.lora.alpha,
        lora_dropout=finetune.lora.dropout,
        target_modules=_target_pattern(finetune.lora, base),
        modules_to_save=[*HEAD_MODULES, *(name for name, is_trained in trained.items() if is_trained)],
    )


def _target_pattern(lora: Lora, base: SmolVLMForDST) -> str:
    """Return a pattern for linear layers of the text model; plain suffixes would hit the tower too."""
    modules = base.model.text_model.named_modules()
    layers = {name.rpartition(".")[2] for name, module in modules if isinstance(module, nn.Linear)}
    unknown = sorted(set(lora.target_modules) - layers)
    if unknown:
        known = ", ".join(sorted(layers))
        raise ConfigError(f"finetune.lora.target_modules: the text model has no {', '.join(unknown)}; it has {known}")
    names = "|".join(re.escape(name) for name in sorted(set(lora.target_modules)))
    return rf"model\.text_model\..*\.({names})"


def continued_config(adapter: LoraConfig, wanted: LoraConfig) -> LoraConfig:
    """Return the config for training `adapter` further under a recipe that would make `wanted` anew.

    Raises:
        ConfigError: for every field that shapes what the adapter computes and differs.
    """
    free = {*FROM_RECIPE, *FROM_ADAPTER, "modules_to_save"}
    faults = [_difference(name, adapter, wanted) for name in wanted.to_dict() if name not in free]
    if any(faults):
        raise ConfigError([fault for fault in faults if fault])
    config = copy.deepcopy(adapter)
    for name in FROM_RECIPE:
        setattr(config, name, getattr(wanted, name))
    # A connector that was trained before and is frozen now is still part of the adapter.
    config.modules_to_save = sorted({*(adapter.modules_to_save or ()), *wanted.modules_to_save})
    return config


def _difference(name: str, adapter: LoraConfig, wanted: LoraConfig) -> str | None:
    """Return what to do about a field that differs, or None; peft writes "not used" as None, empty or False."""
    ours, theirs = getattr(wanted, name), getattr(adapter, name)
    if (ours or None) == (theirs or None):
        return None
    if name in RECIPE_KEYS:
        return (
            f"finetune.lora.{RECIPE_KEYS[name]}: {ours} differs from the adapter's {theirs}; "
            "set it so, or start from the base model"
        )
    return (
        f"finetune.mode: lora cannot go on with this adapter: its {name} is {theirs}, the recipe's adapters have {ours}; "
        "set finetune.mode: full, which merges it into its base, or start from the base model"
    )
