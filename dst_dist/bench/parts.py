"""Measures where the time of a step goes: named regions around the parts of the trainer's step, and their sums."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

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
Span = tuple[float, float]
"""Begin and end in microseconds."""


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
            self._watch_forward(part, module)

    def _watch_forward(self, part: str, module: nn.Module) -> None:
        opened = []

        def before(*_: Any) -> None:
            region = self.region(part)
            region.__enter__()
            opened.append(region)

        def after(*_: Any) -> None:
            opened.pop().__exit__(None, None, None)

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

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
    found = {part: _named(on_host, PREFIX + part) for part in (*PARTS, "step")}
    # The tower runs within the model's forward.
    found["text forward"] = without(found["text forward"], found["tower"])
    # On a GPU its kernels say what is done, not the calls that ask for them.
    work = on_device or on_host
    network = _union(_span(event) for event in work if event.name.startswith(NETWORK))
    waiting = without(network, _union(_span(event) for event in work if _computes(event)))
    parts = {part: _length(without(found[part], waiting)) for part in PARTS}
    total = _length(found["step"])
    parts["communication"] = total - _length(without(found["step"], waiting))
    parts["other"] = total - sum(parts.values())
    return {part: microseconds / 1e6 for part, microseconds in parts.items()}


def _computes(event: Any) -> bool:
    """Return whether an event is a kernel or a copy on a GPU, or an operation on a CPU, and not a collective."""
    if event.device_type == DeviceType.CPU:
        return event.name.startswith("aten::")
    return not event.is_user_annotation and not event.name.startswith(NETWORK)


def _span(event: Any) -> Span:
    return event.time_range.start, event.time_range.end


def _named(events: Iterable[Any], name: str) -> list[Span]:
    return _union(_span(event) for event in events if event.name == name)


def _union(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order that do not touch and cover the same time."""
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined


def without(spans: list[Span], others: list[Span]) -> list[Span]:
    """Return what is left of spans outside of others; both in order, none touching another of its own."""
    left, place = [], 0
    for begin, end in spans:
        while place < len(others) and others[place][1] <= begin:
            place += 1
        at = place
        while at < len(others) and others[at][0] < end:
            if others[at][0] > begin:
                left.append((begin, others[at][0]))
            begin = max(begin, others[at][1])
            at += 1
        if begin < end:
            left.append((begin, end))
    return left


def _length(spans: Iterable[Span]) -> float:
    return sum(end - begin for begin, end in spans)
