"""`python -m tests.train.recording <file> <recipe>...`: the same training; the first step's gradients are written."""

import sys
from pathlib import Path

import torch
from accelerate.utils import DistributedType
from safetensors.torch import save_file

from dst_dist.exit import leave
from dst_dist.train import __main__ as entry
from dst_dist.train.engine import Engine

intact_gradient_norm = Engine.gradient_norm


def whole_gradient(engine: Engine, parameter: torch.nn.Parameter) -> torch.Tensor:
    """The gradient as the update will see it, from all processes (collective)."""
    if engine.type == DistributedType.DEEPSPEED:
        from deepspeed.utils import safe_get_full_grad

        return safe_get_full_grad(parameter).clone()
    gradient = parameter.grad
    return (gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient).clone()


def record(file: Path):
    def gradient_norm(engine):
        if not file.exists():
            named = engine.unwrapped.named_parameters()
            gradients = {name: whole_gradient(engine, weight) for name, weight in named if weight.requires_grad}
            engine.wait()
            if engine.is_main:
                save_file(gradients, file)
            engine.wait()
        return intact_gradient_norm(engine)

    return gradient_norm


if __name__ == "__main__":
    Engine.gradient_norm = record(Path(sys.argv[1]))
    leave(entry.main(sys.argv[2:]))
