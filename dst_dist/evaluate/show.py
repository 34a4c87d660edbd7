"""`dst-dist stream` runs a run's final model on one video, and shows line by line what it writes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import torch

from dst_dist.data.below_root import one_form
from dst_dist.data.clips import Clip
from dst_dist.data.frames import STORAGES, FrameReader
from dst_dist.data.state import format_state
from dst_dist.errors import DataError
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.measure.timeline import Event
from dst_dist.streaming.stream import Streamer
from dst_dist.streaming.video_input import read_task, read_video
from dst_dist.streaming.watch import given_turns, read_frames


def stream_video(run_folder: Path, split: str, video: str, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Yield lines for people with what a run's final model writes on a video of a split, clip by clip.

    Args:
        video: name of a frames file, or the end of its path below the data root. Its clips give the tasks and the
            user's turns.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, or if the split has no such video.
    """
    run = FinishedRun.open(run_folder, split, overrides)
    run.check_for_streaming()
    reader = FrameReader(run.data.image_size, absent=run.data.clips.absent_files())
    for clip in _clips_of(video, run.data.clips.index, split):
        streamer = Streamer(run.model, clip, *run.stream_settings)
        yield from stream_lines(streamer, (one for (one,) in read_frames(streamer, reader, run.data.on_missing)))


def stream_file(run_folder: Path, video: Path, task: Path, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Yield lines for people with what a run's final model writes on a video from outside the data.

    Args:
        video, task: as in `read_video` and `read_task`.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, `read_video` and `read_task`.
    """
    clip = read_task(task)
    run = FinishedRun.open(run_folder, None, overrides)
    run.check_for_streaming()
    prompt = "with the prompt of the task" if clip.prompt else "without a prompt: the task gives none"
    yield f"{clip.fps:g} frames a second, {prompt}"
    frames = read_video(video, clip.fps, run.setup.model_files.image_size)
    yield from stream_lines(Streamer(run.model, clip, *run.stream_settings), map(torch.tensor, frames))


def _clips_of(video: str, clips: Iterable[Clip], split: str) -> list[Clip]:
    """Return the clips of the one video whose path ends in this name; DataError if there is none, or several."""
    wanted = _parts(video)
    names = {clip.video: _parts(clip.video) for clip in clips}
    found = [name for name, parts in names.items() if parts[len(parts) - len(wanted) :] == wanted]
    if not found:
        known = ", ".join(sorted({parts[-1] for parts in names.values()})[:5])
        raise DataError(f"no clip of a video {video} in data.{split}; there are {known}, ...")
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:5])
        raise DataError(f"{len(found)} videos of data.{split} are called {video}: {shown}; give more of the path")
    return [clip for clip in clips if clip.video == found[0]]


def _parts(video: str) -> tuple[str, ...]:
    path = PurePosixPath(one_form(video))
    return (path.with_suffix("") if path.suffix in STORAGES else path).parts


def stream_lines(streamer: Streamer, frames: Iterable[torch.Tensor]) -> Iterator[str]:
    """Show a streamer a video, with the user's turns of its task at their frames; yield lines as things happen.

    Args:
        frames: uint8 [3, S, S] each, `task.fps` a second, from `task.start_frame` on.
    """
    task, given = streamer.task, given_turns(streamer.task)
    yield f"{task.id}: {task.goal}"
    for frame in frames:
        events = streamer.push_frame(frame)
        begin = f"  {streamer.frame_index / task.fps:8.1f} s  "
        yield from (begin + _event_text(event) for event in events)
        for turn in given.pop(streamer.frame_index, []):
            yield f"{begin}{turn.role}: {turn.text}"
            events = (streamer.push_user if turn.role == "user" else streamer.push_system)(turn.text)
            yield from (begin + _event_text(event) for event in events)
    num_frames = streamer.frame_index + 1 - task.start_frame
    if task.steps:
        yield f"  state: {format_state(streamer.state, streamer.step_ids)}"
    counts = Counter(streamer.counts) + Counter({"turns after the video's end": sum(map(len, given.values()))})
    remarks = "".join(f"; {number} {kind}" for kind, number in counts.items())
    speed = _speed(streamer.work_s / num_frames, task.fps) if num_frames else "no frames"
    yield f"  {speed}{remarks}"


def _speed(frame_s: float, fps: float) -> str:
    """Return the time of a frame as text, with whether the model keeps up with `fps` frames a second."""
    ratio = frame_s * fps
    if ratio <= 1:
        words = f"{1 / ratio:.1f} times as fast as the video: it keeps up"
    else:
        words = f"{ratio:.1f} times as slow as the video: it falls behind"
    return f"{frame_s * 1000:.1f} ms a frame, {words}"


def _event_text(event: Event) -> str:
    remark = f"  ({event.num_illegal} not allowed)" if event.num_illegal else ""
    return f"{event.role}: {event.text}  [{event.probability:.2f}]{remark}"
