"""How far two trainings are from one another: what they logged, and what they left in `final/`."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from dst_dist import config
from dst_dist.model.finetune import load_model, save_model
from tests.launching import Launched

LOGGED = ("loss", "loss/lm", "loss/dst_gen", "loss/dst_update", "loss/speaking", "grad_norm")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `final/` folder, a full model's or an adapter's."""
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def initial_weights(words: list[str], folder: Path) -> dict[str, torch.Tensor]:
    """What a run with this recipe starts from, by the names that `final/` has."""
    model = load_model(config.load(words))
    save_model(model, model.state_dict(), folder)
    return weights_of(folder)


def logged_difference(run: Launched, reference: Launched) -> dict[str, float]:
    """By logged quantity, the largest relative difference over the steps."""
    ours, theirs = run.metrics(), reference.metrics()
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    return {
        key: max(abs(a[key] - b[key]) / abs(b[key]) for a, b in zip(ours, theirs, strict=True))
        for key in LOGGED
    }


def weight_difference(run: Launched, reference: Launched, initial: dict[str, torch.Tensor]) -> float:
    """Distance of the final weights from the reference's, as a share of the way that those went."""
    ours, theirs = weights_of(run.folder / "final"), weights_of(reference.folder / "final")
    assert ours.keys() == theirs.keys() == initial.keys()
    return _norm(ours[name] - theirs[name] for name in theirs) / _norm(theirs[name] - initial[name] for name in theirs)


def tensor_differences(run: Launched, reference: Launched, initial: dict[str, torch.Tensor]) -> dict[str, float]:
    """`weight_difference` of each tensor alone; tensors that are not trained are left out."""
    ours, theirs = weights_of(run.folder / "final"), weights_of(reference.folder / "final")
    moved = {name: _norm([theirs[name] - initial[name]]) for name in theirs}
    return {name: _norm([ours[name] - theirs[name]]) / way for name, way in moved.items() if way}


def _norm(tensors) -> float:
    return float(torch.stack([tensor.double().square().sum() for tensor in tensors]).sum().sqrt())
