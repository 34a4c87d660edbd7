"""`python -m tests.benchmarks.stream_speed RUN [key=value ...] [--split test] [--clips 24] [--streams 8] [--repeats 3]`

Clips of a finished run's split watched one by one and several in a batch, in turns, so that whatever else the machine
does falls on both. Prints frames a second of each, their ratio (at 8 streams on a CPU it should be 3 at least), by the
clock and by this process's own time, and what one frame takes alone. Both must write the same.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.measure.timeline import Watched
from dst_dist.streaming.watch import watch


def timed(run: FinishedRun, clips: list, num_streams: int) -> tuple[float, float, list[Watched]]:
    """Seconds by the clock, seconds of this process, and what was watched."""
    clock_s, process_s = time.perf_counter(), time.process_time()
    watched = list(watch(run, clips, num_streams))
    return time.perf_counter() - clock_s, time.process_time() - process_s, watched


def written_by(watched: list[Watched]) -> list:
    return [(event.role, event.frame, event.text, event.transitions) for one in watched for event in one.events]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    run = FinishedRun.open(options.run, options.split, options.words)
    clips = list(run.data.clips.index)[: options.clips]
    num_frames = sum(clip.end_frame - clip.start_frame for clip in clips)
    timed(run, clips[:2], options.streams)
    ratios, process_ratios, alone_s, together_s = [], [], [], []
    frame_s: list[np.ndarray] = []
    for _ in range(options.repeats):
        alone, alone_process, one = timed(run, clips, 1)
        together, together_process, several = timed(run, clips, options.streams)
        assert written_by(one) == written_by(several), "the batch writes something else"
        ratios.append(alone / together)
        process_ratios.append(alone_process / together_process)
        alone_s.append(alone)
        together_s.append(together)
        frame_s += [watched.frame_s for watched in one]
    delays_ms = np.concatenate(frame_s) * 1000
    print(f"{len(clips)} clips, {num_frames} frames, {len(written_by(one))} events, the same in both")
    print(
        f"one by one: {num_frames / statistics.median(alone_s):.1f} frames/s; a frame with what is written after it takes"
    )
    print(
        f"  {np.median(delays_ms):.1f} ms (median), {np.quantile(delays_ms, 0.9):.1f} ms (90 %), {delays_ms.max():.1f} ms (most)"
    )
    print(f"{options.streams} in a batch: {num_frames / statistics.median(together_s):.1f} frames/s")
    print(
        f"ratio {statistics.median(ratios):.2f} by the clock, {statistics.median(process_ratios):.2f} by this process's time"
    )


if __name__ == "__main__":
    main()
