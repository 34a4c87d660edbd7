"""Which process of an evaluation streams which videos."""

from collections.abc import Sequence

import numpy as np

from dst_dist.data.clips import Clip
from dst_dist.processes import Processes


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
