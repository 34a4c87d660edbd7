"""Check that weight files are whole, and that no weight is missing, unknown, of another shape or not finite."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from dst_dist.errors import CheckpointError


def weight_files(folder: Path) -> list[str]:
    """Return the names of a full model's weight files. Raises CheckpointError if the index of its shards is broken."""
    index = folder / "model.safetensors.index.json"
    # transformers prefers the single file, and an index may be left of shards that it replaced.
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return ["model.safetensors"]
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: not readable ({error})") from error


def check_weight_files(folder: Path, names: Sequence[str]) -> None:
    """Raise CheckpointError with all files that are missing or cut off. Reads their headers alone."""
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


def check_weights(
    place: object,
    missing: Collection[str],
    unknown: Collection[str] = (),
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> None:
    """Raise CheckpointError with every weight that is missing, unknown or of another shape.

    Args:
        place: the file, folder or model that the weights are from.
        mismatched: name, shape and right shape of each.
    """
    shapes = [f"{name} {list(found)} instead of {list(right)}" for name, found, right in mismatched]
    names = {"are missing": missing, "belong to no part of the model": unknown, "have a wrong shape": shapes}
    _raise_faults(place, names)


def check_finite(place: object, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError with every weight that holds NaN or infinity."""
    # Smallest and largest pass NaN on, and need no memory of the weight's size.
    names = [name for name, tensor in weights.items() if not torch.stack(tensor.aminmax()).isfinite().all()]
    _raise_faults(place, {"hold values that are not finite (use an earlier model, or copy it anew)": names})


def _raise_faults(place: object, weights: Mapping[str, Collection[str]]) -> None:
    """Raise CheckpointError with the names of weights, given by their fault, if there are any."""
    faults = [f"{place}: {len(names)} weights {fault}: {_listed(names)}" for fault, names in weights.items() if names]
    if faults:
        raise CheckpointError(faults)


def _listed(names: Collection[str]) -> str:
    """Return all names; those that differ in the layer's number alone are one: `layers.{0,1}.mlp.up_proj.weight`."""
    numbers: dict[str, list[str]] = {}
    for name in sorted(names):
        pattern = re.sub(r"\.\d+\.", ".{}.", name, count=1)
        numbers.setdefault(pattern, []).extend(re.findall(r"\.(\d+)\.", name)[:1])
    layers = {pattern: ",".join(sorted(found, key=int)) for pattern, found in numbers.items()}
    return ", ".join(pattern.replace("{}", f"{{{n}}}" if "," in n else n) for pattern, n in layers.items())
