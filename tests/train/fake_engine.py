"""Processes for tests of checkpoints: threads with a small model each, the same as under DDP."""

import threading

import torch
from accelerate.utils import DistributedType

from dst_dist.errors import CheckpointError
from dst_dist.processes import Processes


class Meeting:
    """Exchanges values between the processes; if one has ended, the others fail."""

    def __init__(self, number):
        self.barrier, self.values = threading.Barrier(number, timeout=20), [None] * number


class FakeEngine(Processes):
    """The part of `Engine` that a checkpoint needs, in a thread."""

    type = DistributedType.MULTI_GPU
    device = torch.device("cpu")

    def __init__(self, rank, meeting, seed):
        self.rank, self.meeting, self.num_processes = rank, meeting, len(meeting.values)
        generator = torch.Generator().manual_seed(seed)
        self.unwrapped = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
        for parameter in self.unwrapped.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        groups = [{"params": [one]} for one in self.unwrapped.parameters()]
        self.optimizer = torch.optim.AdamW(groups, lr=0.1)
        self.seed = seed

    def step(self):
        for number, parameter in enumerate(self.unwrapped.parameters()):
            parameter.grad = torch.full_like(parameter, 0.1 * (number + 1) + self.seed)
        self.optimizer.step()

    def gather_objects(self, value):
        self.meeting.barrier.wait()
        self.meeting.values[self.rank] = value
        self.meeting.barrier.wait()
        return list(self.meeting.values)

    def from_main(self, value):
        return self.gather_objects(value)[0]

    @property
    def whole_state(self):
        state = {name: parameter.detach() for name, parameter in self.unwrapped.named_parameters()}
        for name, parameter in self.unwrapped.named_parameters():
            state |= {f"{name}/{key}": value for key, value in self.optimizer.state[parameter].items()}
        return state


def on_processes(number, work, seed=0):
    """Call `work(engine)` on `number` processes; return what each returned or raised, and the engines."""
    meeting, results = Meeting(number), [None] * number
    engines = [FakeEngine(rank, meeting, seed) for rank in range(number)]

    def run(engine):
        try:
            results[engine.rank] = work(engine)
        except BaseException as error:
            results[engine.rank] = error
            if not isinstance(error, OSError | CheckpointError):
                meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=[engine]) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, engines
