"""Prepares a process that makes micro-batches, so that whatever goes wrong in it reaches the training process."""

import os
import shutil
from multiprocessing.queues import Queue
from typing import Any

from dst_dist.data.batching import PackedBatch
from dst_dist.data.forks import leave_signals_to_the_trainer

SHARED_MEMORY = "/dev/shm"
REMEDIES = {
    "AF_UNIX path too long": "set TMPDIR to a shorter path",
    "Too many open files": "raise the limit of open files (ulimit -n)",
}
"""What to change, by a part of the error; shared memory is short in all other cases."""


def start_worker(worker: int) -> None:
    """Prepare a data worker; called in it before its first micro-batch."""
    leave_signals_to_the_trainer()
    # A thread sends micro-batches. Its errors are printed and lost, and the trainer would wait for ever.
    Queue._on_queue_feeder_error = _send_fault


def _send_fault(queue: Queue, error: Exception, item: Any) -> None:
    """Send a micro-batch's number with a fault in place of its content; end the worker if that cannot be sent."""
    number, batch = item if isinstance(item, tuple) else (None, None)
    if not isinstance(batch, PackedBatch) or not len(batch.input_ids):
        os._exit(1)
    size = sum(tensor.nbytes for tensor in vars(batch).values() if hasattr(tensor, "nbytes"))
    free_mib = shutil.disk_usage(SHARED_MEMORY).free / 2**20
    more_memory = (
        f"{SHARED_MEMORY} has {free_mib:.1f} MiB left: give the machine more of it (docker run --shm-size=8g), lower "
        "train.max_frames"
    )
    remedy = next((remedy for words, remedy in REMEDIES.items() if words in str(error)), more_memory)
    empty = batch.without_content()
    empty.fault = (
        f"a data worker could not hand over a micro-batch of {size / 2**20:.1f} MiB: {error}; {remedy}, or set "
        "data.num_workers=0"
    )
    queue.put((number, empty))
