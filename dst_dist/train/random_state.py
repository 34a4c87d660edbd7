"""Random generators of a process: seeded, saved as tensors, restored. Training draws from torch's alone."""

import random

import numpy as np
import torch

from dst_dist.train.state_files import Stretch, StretchReader


def seed_all(seed: int) -> None:
    """Seed torch, and numpy and Python for whatever a library may draw."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state(device: torch.device) -> list[Stretch]:
    """Return the states of torch's generators of this process, uint8."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return [Stretch(name, 0, values) for name, values in states.items()]


def set_random_state(reader: StretchReader, device: torch.device) -> None:
    """Restore the states that `random_state` returned, as far as this process has the device."""
    for name, values in ((stretch.name, stretch.values) for stretch in random_state(device)):
        if name in reader.names:
            state = torch.empty_like(values)
            reader.fill(name, 0, state)
            torch.cuda.set_rng_state(state, device) if name == "cuda" else torch.set_rng_state(state)
