"""Model folders from outside: their config, and whether the weights stand there whole, without loading any."""

import json
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, SmolVLMConfig
from transformers.utils import cached_file

from dst_dist.errors import CheckpointError, ConfigError

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "chat_template.json")
"""What stock transformers makes pixels and prompts by, besides the tokenizer's own files."""


def read_model_config(name: str) -> SmolVLMConfig:
    """The config of a SmolVLM2. Raises ConfigError if it cannot be had, or is another model's."""
    try:
        values, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise ConfigError(cannot_be_had(name, error)) from error
    if "model_type" not in values:
        raise ConfigError(cannot_be_had(name, ValueError("no config.json that names a model_type")))
    if values["model_type"] != "smolvlm":
        raise ConfigError(f"model.name_or_path: {name} is of type {values['model_type']}, not a SmolVLM2")
    try:
        return SmolVLMConfig.from_dict(values)
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(cannot_be_had(name, error)) from error


def cannot_be_had(name: str, error: Exception) -> str:
    """Why a model cannot be loaded, and what to do."""
    reason = " ".join(str(error).split())
    if Path(name).is_dir():
        return f"model.name_or_path: {name} is not a whole model folder ({reason})"
    return (
        f"model.name_or_path: {name} is neither a folder here nor a model that the hub or its cache gives. "
        f"Without internet, run this on a login node first: hf download {name} ({reason})"
    )


def read_processor_files(name: str) -> dict[str, bytes]:
    """Contents, by file name, of those `PROCESSOR_FILES` that a model has, in its folder or on the hub."""
    # Without internet, the hub's cache does not say that a file does not exist.
    lenient = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    paths = {file: cached_file(name, file, **lenient) for file in PROCESSOR_FILES}
    return {file: Path(path).read_bytes() for file, path in paths.items() if path is not None}


def weight_files(folder: Path) -> list[str]:
    """The names of a full model's weight files. Raises CheckpointError if their index is broken."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: not readable ({error})") from error


def check_weight_files(folder: Path, names: Sequence[str]) -> None:
    """Raises CheckpointError for files that are missing or cut off; only their headers are read."""
    faults = []
    for path in (folder / name for name in names):
        try:
            with safe_open(path, "pt"):
                pass
        except FileNotFoundError:
            faults.append(f"{folder}: no {path.name}; weights are read from safetensors only")
        except (OSError, SafetensorError) as error:
            faults.append(f"{path}: not readable, was it copied whole? ({error})")
    if faults:
        raise CheckpointError(faults)
