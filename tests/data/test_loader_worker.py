"""Whatever goes wrong in a data worker reaches the training process, which does not wait for ever."""

import errno
import multiprocessing
import os
import pickle
import signal
import tempfile

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


def long_path(*_):
    raise OSError("AF_UNIX path too long")


def no_pickle(*_):
    raise pickle.PicklingError("Can't pickle it")


def no_memory(*_):
    raise MemoryError("no more")


SHARED_MEMORY = "--shm-size=8g), lower train.max_frames, or set data.num_workers=0"
MESSAGES = {
    full: ("No space left on device", SHARED_MEMORY),
    many_files: ("Too many open files", "; raise the limit of open files (ulimit -n), or set data.num_workers=0"),
    long_path: ("AF_UNIX path too long", "; set TMPDIR to a shorter path, or set data.num_workers=0"),
    no_pickle: ("Can't pickle it", SHARED_MEMORY),
    no_memory: ("no more", SHARED_MEMORY),
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
    assert all(words in message for words in MESSAGES[fail])


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


@pytest.mark.parametrize("length", [20, 120])
def test_a_long_tmpdir_is_named_as_the_cause(demo_dataset, monkeypatch, tmp_path, length):
    """Tensors are sent by sockets, which lie in it and may have 107 characters."""
    folder = tmp_path / ("x" * length)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder) if length > 100 else "/tmp")
    monkeypatch.setitem(multiprocessing.process.current_process()._config, "tempdir", None)
    error = error_of(demo_dataset, 1)
    assert error is None if length < 100 else "set TMPDIR to a shorter path" in error[1]
