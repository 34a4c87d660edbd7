"""Measures where the time of a step goes: named regions around the parts of the trainer's step, and their sums."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import record_function

from dst_dist.config import Recipe
from dst_dist.model.trainable import unwrap
from dst_dist.train.engine import Engine

PREFIX = "dst_dist::"
PARTS = ("data", "tower", "text forward", "backward", "optimizer")
"""Parts that have a region of their own; communication is taken out of them, and the rest of the step is `other`."""
NETWORK = ("nccl", "gloo:", "c10d::")
"""Beginnings of the names of collectives, on a GPU and on a CPU."""


class WatchedEngine(Engine):
    """The trainer's engine with a region around each part of a step while `is_watching`.

    It waits for the device at each border, so that a region has the device's time too.
    """

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        self.is_watching = False

    @contextmanager
    def region(self, part: str) -> Iterator[None]:
        """Run a block as one of PARTS, or as the whole `step`."""
        if not self.is_watching:
            yield
            return
        self.wait_for_device()
        with record_function(PREFIX + part):
            yield
            self.wait_for_device()

    def wait_for_device(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        tower = unwrap(model).model.vision_model
        super().prepare(model, optimizer)
        for part, module in (("text forward", self.model), ("tower", tower)):
            module.forward = self.region(part)(module.forward)

    def backward(self, loss: torch.Tensor) -> None:
        with self.region("backward"):
            super().backward(loss)

    def gradient_norm(self) -> float:
        with self.region("optimizer"):
            return super().gradient_norm()

    def step(self) -> None:
        with self.region("optimizer"):
            super().step()


def seconds_of_parts(events: Iterable[Any]) -> dict[str, float]:
    """Return the seconds of each of PARTS, of `communication` and of `other`, which add up to those of the steps.

    Communication is the time in which a collective runs, or waits for another process, and nothing is computed.

    Args:
        events: `FunctionEvent`s of torch's profiler.
    """
    on_host, on_device = [], []
    for event in events:
        (on_host if event.device_type == DeviceType.CPU else on_device).append(event)
    # On a GPU its kernels say what is done, not the calls that ask for them.
    work = on_device or on_host
    groups = {part: [event for event in on_host if event.name == PREFIX + part] for part in (*PARTS, "step")}
    groups["network"] = [event for event in work if event.name.startswith(NETWORK)]
    groups["computing"] = [event for event in work if _computes(event)]
    spans = {name: [(one.time_range.start, one.time_range.end) for one in group] for name, group in groups.items()}
    edges = np.unique([edge for of_group in spans.values() for span in of_group for edge in span])
    runs = {name: _is_covered(of_group, edges) for name, of_group in spans.items()}
    # The tower runs within the model's forward.
    runs["text forward"] &= ~runs["tower"]
    waits, seconds = runs["network"] & ~runs["computing"], np.diff(edges) / 1e6
    parts = {part: float(seconds[runs[part] & ~waits].sum()) for part in PARTS}
    parts["communication"] = float(seconds[runs["step"] & waits].sum())
    parts["other"] = float(seconds[runs["step"]].sum()) - sum(parts.values())
    return parts


def _is_covered(spans: Sequence[tuple[float, float]], edges: np.ndarray) -> np.ndarray:
    """Return whether some span covers the stretch between each two edges, bool [len(edges) - 1]; spans end at edges."""
    places = np.searchsorted(edges, np.array(spans).reshape(-1, 2))
    begun, ended = (np.bincount(column, minlength=len(edges)).cumsum() for column in places.T)
    return (begun > ended)[:-1]


def _computes(event: Any) -> bool:
    """Return whether an event is a kernel or a copy on a GPU, or an operation on a CPU, and not a collective."""
    if event.device_type == DeviceType.CPU:
        return event.name.startswith("aten::")
    return not event.is_user_annotation and not event.name.startswith(NETWORK)
