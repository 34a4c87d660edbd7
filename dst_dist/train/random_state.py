"""The random generators of a process: seeded, written to a checkpoint as tensors, and set again."""

import random

import numpy as np
import torch

from dst_dist.train.state_files import Stretch, StretchReader


def seed_all(seed: int) -> None:
    """Training draws from torch's generator alone; the others are seeded for whatever a library may draw."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state(device: torch.device) -> list[Stretch]:
    """The state of every random generator of this process."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    assert kind == "MT19937"
    version, words, spare = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, *_as_ints(gauss)]),
        "python": torch.tensor(words),
        "python_rest": torch.tensor([version, spare is not None, *_as_ints(spare or 0.0)]),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return [Stretch(name, 0, values) for name, values in states.items()]


def set_random_state(reader: StretchReader, device: torch.device) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(_read(reader, "torch", torch.uint8, len(torch.get_rng_state())))
    position, has_gauss, gauss = _read(reader, "numpy_rest", torch.int64, 3).tolist()
    keys = _read(reader, "numpy", torch.int64, 624).numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, _as_float(gauss)))
    version, has_spare, spare = _read(reader, "python_rest", torch.int64, 3).tolist()
    random.setstate(
        (version, tuple(_read(reader, "python", torch.int64, 625).tolist()), _as_float(spare) if has_spare else None)
    )
    if device.type == "cuda" and "cuda" in reader.names:
        torch.cuda.set_rng_state(_read(reader, "cuda", torch.uint8, len(torch.cuda.get_rng_state(device))), device)


def _read(reader: StretchReader, name: str, dtype: torch.dtype, length: int) -> torch.Tensor:
    values = torch.empty(length, dtype=dtype)
    reader.fill(name, 0, values)
    return values


def _as_ints(value: float) -> list[int]:
    """A float64 by its bits, so that it comes back exactly."""
    return [int(np.float64(value).view(np.int64))]


def _as_float(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
