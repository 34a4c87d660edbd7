"""Compares two trainings: their logs, and the weights in `final/`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from dst_dist.model.loading import load_model
from dst_dist.model.saving import save_model
from dst_dist.recipes.loading import load_recipe
from tests.launching import Launched

Weights = Mapping[str, torch.Tensor]

LOSS_TOLERANCE = 1e-5
"""Relative, of a step's loss and its four terms."""
NORM_TOLERANCE = 1e-4
"""Relative, of a step's gradient norm: the only number that sees a wrong scale, since Adam and clipping do not."""
WEIGHT_TOLERANCE = 3e-4
"""Relative to the distance that training moved the weights, all tensors together."""
TENSOR_TOLERANCE = 3e-3
"""Relative to the distance that training moved a tensor, for the worst tensor."""

LOSSES = ("loss", "loss/lm", "loss/dst_gen", "loss/dst_update", "loss/speaking")


def weights_of(folder: Path) -> Weights:
    """Return the tensors of a `final/` folder, of a full model or an adapter."""
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def initial_weights(words: Sequence[str], folder: Path) -> Weights:
    """Return the weights that a run with this recipe starts from, by the names in `final/`."""
    model = load_model(load_recipe(words))
    save_model(model, model.state_dict(), folder)
    return weights_of(folder)


def differences(run: Launched, reference: Launched, initial: Weights) -> dict[str, float]:
    """Return the largest relative difference of losses and of gradient norms, and the distance of the final weights."""
    ours, theirs = run.metrics(), reference.metrics()
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    assert [line["num_tokens"] for line in ours] == [line["num_tokens"] for line in theirs]
    by_tensor = tensor_differences(weights_of(run.folder / "final"), weights_of(reference.folder / "final"), initial)
    return {
        "loss": max(_relative(ours, theirs, key) for key in LOSSES),
        "grad_norm": _relative(ours, theirs, "grad_norm"),
        "weights": by_tensor.pop("all"),
        "worst_tensor": max(by_tensor.values()),
    }


def faults(found: Mapping[str, float]) -> list[str]:
    """Return the `differences` that exceed their tolerance."""
    tolerances = {
        "loss": LOSS_TOLERANCE,
        "grad_norm": NORM_TOLERANCE,
        "weights": WEIGHT_TOLERANCE,
        "worst_tensor": TENSOR_TOLERANCE,
    }
    return [f"{key} {found[key]:.1e} > {limit:.0e}" for key, limit in tolerances.items() if not found[key] <= limit]


def tensor_differences(ours: Weights, theirs: Weights, initial: Weights) -> dict[str, float]:
    """Return each trained tensor's distance from the reference, relative to how far that one moved; and for `all`."""
    assert ours.keys() == theirs.keys() == initial.keys()
    distance = {name: _norm(ours[name] - theirs[name]) for name in theirs}
    way = {name: _norm(theirs[name] - initial[name]) for name in theirs}
    assert not any(distance[name] for name in theirs if not way[name]), "a tensor moved that does not in the reference"
    shares = {name: distance[name] / way[name] for name in theirs if way[name] and has_gradient(name)}
    return shares | {"all": _joined(distance.values()) / _joined(way.values())}


def has_gradient(name: str) -> bool:
    """Return whether a tensor has a gradient. A bias of keys has none: softmax ignores a shift of a query's scores.

    It gets rounding noise only, from which Adam makes steps of full length.
    """
    return not name.endswith("k_proj.bias")


def _relative(ours: list[dict], theirs: list[dict], key: str) -> float:
    return max(abs(a[key] - b[key]) / abs(b[key]) for a, b in zip(ours, theirs, strict=True))


def _norm(tensor: torch.Tensor) -> float:
    return float(tensor.double().norm())


def _joined(norms) -> float:
    return sum(norm**2 for norm in norms) ** 0.5
