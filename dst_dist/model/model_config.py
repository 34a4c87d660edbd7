"""Read the config of a model folder or of a model on the hub."""

import re
from pathlib import Path

from transformers import PreTrainedConfig, SmolVLMConfig

from dst_dist.errors import ConfigError
from dst_dist.heads import HEADS
from dst_dist.logs import say_download

SETTINGS = ("tokens_per_frame", *(key for head in HEADS for key in (head.threshold_key, head.rate_key)))
"""Keys that our models' config.json has and a stock model's has not."""


def read_model_config(name: str) -> SmolVLMConfig:
    """Return the config of a SmolVLM2. Raises ConfigError if it cannot be read, or belongs to another kind of model."""
    say_download("model.name_or_path", name)
    try:
        values, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise model_unavailable(name, error) from error
    if "model_type" not in values:
        raise model_unavailable(name, "no config.json that names a model_type")
    if values["model_type"] != "smolvlm":
        raise ConfigError(f"model.name_or_path: {name} is of type {values['model_type']}, not a SmolVLM2")
    if values.get("quantization_config"):
        raise ConfigError(
            f"model.name_or_path: {name} is quantized (quantization_config in its config.json); "
            "name the model it was made from"
        )
    try:
        config = SmolVLMConfig.from_dict(values)
    except Exception as error:
        # The file may hold anything, and transformers raises whatever it stumbles over.
        raise model_unavailable(name, error) from error
    text_type = config.text_config.model_type
    if text_type != "llama":
        raise ConfigError(f"model.name_or_path: the text half of {name} is of type {text_type}, SmolVLM2's is llama")
    return config


def model_unavailable(name: str, reason: object) -> ConfigError:
    """Return the error that says why a model cannot be read, and what to do."""
    reason = " ".join(str(reason).split())
    if Path(name).is_dir():
        return ConfigError(f"model.name_or_path: {name} is not a whole model folder ({reason})")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        return ConfigError(f"model.name_or_path: {name} is neither a folder here nor the name of a model on the hub")
    return ConfigError(
        f"model.name_or_path: {name} is neither a folder here nor a model that the hub or its cache gives. "
        f"Without internet, run this on a login node first: hf download {name} ({reason})"
    )
