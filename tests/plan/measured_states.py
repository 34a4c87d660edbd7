"""`-m tests.plan.measured_states FOLDER <words>`: train, and write what each process holds before its last update."""

import json
import sys
from pathlib import Path

import torch
from accelerate.utils import DistributedType

from dst_dist.exit import leave
from dst_dist.train import __main__ as program
from dst_dist.train.engine import Engine


def num_bytes(tensors) -> int:
    """Return the bytes that this process holds of tensors, some of which may be shards."""
    local = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    return sum(tensor.nbytes for tensor in local)


def measured(engine: Engine) -> dict[str, int]:
    parameters = list(engine.unwrapped.parameters())
    found = {"weights": num_bytes(parameters), "masters": 0}
    adam = engine.optimizer
    if engine.type == DistributedType.DEEPSPEED:
        zero, adam = engine.model.optimizer, engine.model.optimizer.optimizer
        found["masters"] = num_bytes(zero.single_partition_of_fp32_groups)
        found["gradients"] = num_bytes(one for group in zero.averaged_gradients.values() for one in group)
    else:
        found["gradients"] = num_bytes(parameter.grad for parameter in parameters if parameter.grad is not None)
    moments = [value for state in adam.state.values() for value in state.values()]
    found["moments"] = num_bytes(value for value in moments if torch.is_tensor(value) and value.ndim)
    return found


def main(folder: Path, words: list[str]) -> int:
    update = Engine.step

    def step(engine: Engine) -> None:
        (folder / f"{engine.rank}.json").write_text(json.dumps(measured(engine)))
        update(engine)

    Engine.step = step
    return program.main(words)


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]), sys.argv[2:]))
