"""Model folders from outside: their config, and whether the weights stand there whole, without loading any."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, SmolVLMConfig
from transformers.utils import cached_file

from dst_dist.errors import CheckpointError, ConfigError

PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
)
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
    text = values.get("text_config")
    text_type = text.get("model_type", "llama") if isinstance(text, dict) else "llama"
    if text_type != "llama":
        raise ConfigError(f"model.name_or_path: the text half of {name} is of type {text_type}, SmolVLM2's is llama")
    if values.get("quantization_config"):
        raise ConfigError(
            f"model.name_or_path: {name} is quantized (quantization_config in its config.json); name the model it was made from"
        )
    try:
        return SmolVLMConfig.from_dict(values)
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(cannot_be_had(name, error)) from error


def cannot_be_had(name: str, error: Exception) -> str:
    """Why a model cannot be loaded, and what to do."""
    reason = " ".join(str(error).split())
    if Path(name).is_dir():
        return f"model.name_or_path: {name} is not a whole model folder ({reason})"
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        return f"model.name_or_path: {name} is neither a folder here nor the name of a model on the hub"
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
    """The names of the weight files that a full model is loaded from. Raises CheckpointError if their index is broken."""
    index = folder / "model.safetensors.index.json"
    # transformers takes the whole file first, and an index may be left of shards that it replaced.
    if (folder / "model.safetensors").is_file() or not index.is_file():
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


def check_keys(place: str, missing: Collection[str], unexpected: Collection[str]) -> None:
    """Raise CheckpointError with every weight that a model lacks, and every one that belongs to no part of it."""
    faults = [f"{place}: {len(missing)} weights are missing: {_all(missing)}"] if missing else []
    if unexpected:
        faults.append(f"{place}: {len(unexpected)} weights belong to no part of the model: {_all(unexpected)}")
    if faults:
        raise CheckpointError(faults)


def check_shapes(place: str, wanted_by: str, wrong: Collection[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Raise CheckpointError with every weight of another shape.

    Args:
        wanted_by: what the right shape comes from, as a clause.
        wrong: (name, its shape, the right one) of each.
    """
    alike: dict[str, list[str]] = {}
    for name, found, right in sorted(wrong):
        alike.setdefault(f"{list(found)} instead of {list(right)}", []).append(name)
    if wrong:
        named = "; ".join(f"{_all(names)} {shapes}" for shapes, names in alike.items())
        raise CheckpointError(f"{place}: {len(wrong)} weights are of another shape than {wanted_by}: {named}")


def check_finite(place: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError with every weight that holds NaN or infinity."""
    # Smallest and largest pass NaN on, and need no memory of the weight's size.
    wrong = [name for name, tensor in weights.items() if not torch.stack(tensor.aminmax()).isfinite().all()]
    if wrong:
        raise CheckpointError(
            f"{place}: {len(wrong)} weights hold values that are not finite: {_all(wrong)}; use an earlier model, or copy it anew"
        )


def some(names: Collection[str]) -> str:
    """The first few of them."""
    return ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")


def _all(names: Collection[str]) -> str:
    """Every name; those that differ by the layer's number alone as one: `layers.{0,1}.mlp.up_proj.weight`."""
    layers: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(names):
        front, *rest = re.split(r"\.(\d+)\.", name, maxsplit=1)
        layers.setdefault((front, *rest[1:]), []).extend(rest[:1])
    joined = {parts: ",".join(sorted(numbers, key=int)) for parts, numbers in layers.items()}
    return ", ".join((f".{{{n}}}." if "," in n else f".{n}.").join(parts) for parts, n in joined.items())
