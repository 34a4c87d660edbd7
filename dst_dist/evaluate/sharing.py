"""The processes of an evaluation, and which of them streams which videos."""

import os
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import torch
from accelerate import PartialState

from dst_dist.data.clips import Clip
from dst_dist.processes import Processes

PATIENCE = timedelta(days=1)
"""Time that a process waits for the others: one has the longest videos, and one checks all frames at first. NCCL's
default of ten minutes would end them. If one fails, the launcher ends the others anyway."""


def start_processes() -> Processes:
    """Join the launched processes and return this one; each holds the whole model (collective)."""
    # Nothing is sharded here, so that a launch file of any training engine works too.
    for engine in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        os.environ.pop(engine, None)
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes, state.device)


def share_of(clips: Sequence[Clip], processes: Processes) -> list[int]:
    """Return the positions of this process's clips: whole videos, longest first, each to the least loaded process."""
    frames_of: dict[str, int] = {}
    for clip in clips:
        frames_of[clip.video] = frames_of.get(clip.video, 0) + clip.end_frame - clip.start_frame
    loads, owner = np.zeros(processes.num_processes, np.int64), {}
    for video, num_frames in sorted(frames_of.items(), key=lambda item: (-item[1], item[0])):
        owner[video] = int(np.argmin(loads))
        loads[owner[video]] += num_frames
    return [position for position, clip in enumerate(clips) if owner[clip.video] == processes.rank]
