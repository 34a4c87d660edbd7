"""The recipe's LoRA config, and the check that an earlier adapter can be trained further under it."""

import re
from dataclasses import replace

from peft import LoraConfig
from torch import nn

from dst_dist.config import Lora, Recipe
from dst_dist.errors import ConfigError
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.smolvlm_dst import SmolVLMForDST

RECIPE_KEYS = {"r": "rank", "lora_alpha": "alpha"}
"""peft's names of settings that the recipe's `finetune.lora` calls otherwise."""
NOTES = {"init_lora_weights", "auto_mapping", "peft_version", "revision"}
MAY_DIFFER = NOTES | {"base_model_name_or_path", "lora_dropout", "inference_mode", "task_type", "modules_to_save"}
"""Settings that do not change what a trained adapter computes; the recipe's are used."""


def lora_config(recipe: Recipe, base: SmolVLMForDST) -> LoraConfig:
    """Return the peft config of the recipe's adapter: LoRA on the text model; heads, connector and tower in full.

    Raises:
        ConfigError: if the text model has no such target modules.
    """
    finetune = recipe.finetune
    trained = {"connector": finetune.train.connector, "vision_model": finetune.train.vision}
    return LoraConfig(
        r=finetune.lora.rank,
        lora_alpha=finetune.lora.alpha,
        lora_dropout=finetune.lora.dropout,
        target_modules=_target_pattern(finetune.lora, base),
        modules_to_save=[*HEAD_MODULES, *(name for name, is_trained in trained.items() if is_trained)],
    )


def _target_pattern(lora: Lora, base: SmolVLMForDST) -> str:
    """Return a pattern for linear layers of the text model; plain suffixes would match the vision tower's too."""
    modules = base.model.text_model.named_modules()
    layers = {name.rpartition(".")[2] for name, module in modules if isinstance(module, nn.Linear)}
    unknown = sorted(set(lora.target_modules) - layers)
    if unknown:
        known = ", ".join(sorted(layers))
        raise ConfigError(f"finetune.lora.target_modules: the text model has no {', '.join(unknown)}; it has {known}")
    names = "|".join(re.escape(name) for name in sorted(set(lora.target_modules)))
    return rf"model\.text_model\..*\.({names})"


def continued_config(adapter: LoraConfig, wanted: LoraConfig) -> LoraConfig:
    """Return the config to train `adapter` further under a recipe whose new adapters would have the config `wanted`.

    Raises:
        ConfigError: for every difference that changes what the adapter computes.
    """
    ours, theirs = wanted.to_dict(), adapter.to_dict()
    # peft writes "not used" as None, as an empty value or as False.
    faults = [
        f"finetune.lora.{RECIPE_KEYS.get(name, name)}: {ours[name]} differs from the adapter's {theirs[name]}; "
        "go on with the adapter's, merge it into its base (finetune.mode: full), or start from the base model"
        for name in sorted(ours.keys() - MAY_DIFFER)
        if (ours[name] or None) != (theirs[name] or None)
    ]
    if faults:
        raise ConfigError(faults)
    # A connector that was trained earlier and is frozen now is still part of the adapter.
    return replace(wanted, modules_to_save=sorted({*(adapter.modules_to_save or ()), *wanted.modules_to_save}))
