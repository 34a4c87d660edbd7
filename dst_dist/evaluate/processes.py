"""The processes of an evaluation: one, or as many as `accelerate launch` started."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from dst_dist.data.clips import Clip
from dst_dist.errors import ConfigError

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: one has the longest videos, and one looks at all frames at first. NCCL's own
ten minutes would end them; if one fails, the launcher ends them anyway."""


@dataclass(frozen=True)
class Processes:
    """Who works on what. Every process holds the whole model; videos are dealt out."""

    rank: int
    num_processes: int
    device: torch.device

    @classmethod
    def start(cls) -> "Processes":
        """Join the others (collective).

        Raises:
            ConfigError: if Accelerate does not see the processes that were launched; each would do all the work.
        """
        # A launch file of a training engine serves too: nothing is sharded here.
        for engine in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
            os.environ.pop(engine, None)
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if state.num_processes != launched:
            raise ConfigError(
                f"{launched} processes were launched, but Accelerate sees {state.num_processes}; use one of the files in launch/"
            )
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def from_main(self, value: Any) -> Any:
        """The main process's value on every process (collective)."""
        return broadcast_object_list([value])[0]

    def gather(self, value: Any) -> list[Any]:
        """One picklable value of each process, in order of rank (collective)."""
        return gather_object([value])

    def share_of(self, clips: Sequence[Clip]) -> list[int]:
        """Positions of this process's clips: whole videos, the longest first, each to whoever has least to do."""
        frames_of: dict[str, int] = {}
        for clip in clips:
            frames_of[clip.video] = frames_of.get(clip.video, 0) + clip.end_frame - clip.start_frame
        loads, owner = np.zeros(self.num_processes, np.int64), {}
        for video, num_frames in sorted(frames_of.items(), key=lambda item: (-item[1], item[0])):
            owner[video] = int(np.argmin(loads))
            loads[owner[video]] += num_frames
        return [position for position, clip in enumerate(clips) if owner[clip.video] == self.rank]
