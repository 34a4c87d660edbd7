"""Whatever goes wrong in a data worker reaches the training process, which does not wait for ever."""

import errno
import os
import pickle
import signal

import pytest
import torch

from dst_dist.data.batching import Draw, MicroBatchSpec, PackedBatch
from dst_dist.data.dataset import make_loader
from dst_dist.errors import ConfigError, DataError

CPU = torch.device("cpu")


def specs(number):
    return [MicroBatchSpec(step, 0, [Draw(step, 0)], 16, True) for step in range(number)]


def full(*_):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def many_files(*_):
    raise OSError(errno.EMFILE, "Too many open files")


def no_pickle(*_):
    raise pickle.PicklingError("Can't pickle it")


def no_memory(*_):
    raise MemoryError("no more")


MESSAGES = {
    full: "No space left on device",
    many_files: "Too many open files",
    no_pickle: "Can't pickle it",
    no_memory: "no more",
}


def error_of(dataset, num_workers):
    """Return class and text of the first error; its traceback, which would keep the workers, is dropped."""
    try:
        for batch in make_loader(dataset, specs(3), num_workers, CPU):
            batch.check()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("fail", MESSAGES)
def test_an_error_while_a_micro_batch_is_sent(demo_dataset, monkeypatch, fail):
    """The workers are forked with a way to share memory that fails for all but small tensors, like a full one."""
    intact = torch.UntypedStorage._share_fd_cpu_
    monkeypatch.setattr(
        torch.UntypedStorage, "_share_fd_cpu_", lambda self: fail() if self.nbytes() > 4000 else intact(self)
    )
    kind, message = error_of(demo_dataset, 2)
    assert kind is DataError
    for word in (MESSAGES[fail], "/dev/shm", "data.num_workers=0", "--shm-size"):
        assert word in message


def test_when_the_fault_cannot_be_sent_either_the_worker_ends(demo_dataset, monkeypatch):
    monkeypatch.setattr(PackedBatch, "__reduce_ex__", no_pickle)
    kind, message = error_of(demo_dataset, 1)
    assert kind is RuntimeError and "exited unexpectedly" in message


def killed(dataset):
    os.kill(os.getpid(), signal.SIGKILL)


def gone(dataset):
    raise FileNotFoundError("frames/tea.arrow")


@pytest.mark.parametrize("happens, error", [(killed, "DataLoader worker"), (gone, "tea.arrow")])
def test_an_error_while_a_micro_batch_is_made(demo_dataset, monkeypatch, happens, error):
    monkeypatch.setattr(type(demo_dataset), "sample", lambda dataset, *_: happens(dataset))
    assert error in error_of(demo_dataset, 1)[1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EAGAIN])
def test_workers_that_cannot_be_started(demo_dataset, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refuse)
    with pytest.raises(ConfigError, match="data.num_workers: 2 data workers cannot be started.*ulimit"):
        make_loader(demo_dataset, specs(1), 2, CPU)
