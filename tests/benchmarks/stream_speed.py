"""`python -m tests.benchmarks.stream_speed RUN [key=value ...] [--split test] [--clips 24] [--streams 8] [--repeats 3]`

Watches clips of a finished run's split one by one and several in a batch, alternately, so that other load on the
machine affects both. Prints frames a second of each, their ratio (at 8 streams on a CPU it should be at least 3) by the
clock and by this process's CPU time, and the time of one frame alone. Both must write the same.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.measure.timeline import Watched
from dst_dist.streaming.stream import Stream
from dst_dist.streaming.watch import watch


def timed(run: FinishedRun, clips: list, num_streams: int) -> tuple[float, float, list[Watched]]:
    """Watch the clips; return seconds by the clock, CPU seconds of this process, and what was written."""
    settings = run.stream_settings
    clock_s, process_s = time.perf_counter(), time.process_time()
    watched = list(watch(run.model, run.data, clips, lambda clip: Stream(clip, *settings), num_streams))
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
    speed, together_speed = (num_frames / statistics.median(seconds) for seconds in (alone_s, together_s))
    ratio, process_ratio = statistics.median(ratios), statistics.median(process_ratios)
    most_ms, high_ms = delays_ms.max(), np.quantile(delays_ms, 0.9)
    print(f"one by one: {speed:.1f} frames/s; a frame with the turns written after it takes")
    print(f"  {np.median(delays_ms):.1f} ms (median), {high_ms:.1f} ms (90 %), {most_ms:.1f} ms (most)")
    print(f"{options.streams} in a batch: {together_speed:.1f} frames/s")
    print(f"ratio {ratio:.2f} by the clock, {process_ratio:.2f} by this process's CPU time")


if __name__ == "__main__":
    main()
