"""`dst-dist stream`: a run's final model on one video, told line by line."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from dst_dist.data.clips import Clip
from dst_dist.data.frames import SUFFIX
from dst_dist.errors import DataError
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.streaming.stream import Streamer
from dst_dist.streaming.video_input import read_task, read_video
from dst_dist.streaming.watch import tell, tell_clip


def stream_video(run_folder: Path, split: str, video: str, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Show a run's final model one video frame by frame; yields lines for people.

    Args:
        video: name of a frames file, or the end of its path below the data root. Its clips give the tasks and what
            the user says.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, or if the split has no such video.
    """
    run = FinishedRun.open(run_folder, split, overrides)
    run.check_for_streaming()
    for clip in _clips_of(video, run.data.clips.index, split):
        yield from tell_clip(_streamer(run, clip), run.data)


def stream_file(run_folder: Path, video: Path, task: Path, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Show a run's final model a video from outside the data, as it comes; yields lines for people. Needs no data.

    Args:
        video, task: as `read_video` and `read_task` want them.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, `read_video` and `read_task`.
    """
    clip = read_task(task)
    run = FinishedRun.open(run_folder, None, overrides)
    run.check_for_streaming()
    yield f"{clip.fps:g} frames a second, {'with the prompt of the task' if clip.prompt else 'without a prompt: the task gives none'}"
    yield from tell(_streamer(run, clip), read_video(video, clip.fps, run.setup.model_files.image_size))


def _clips_of(video: str, clips: Iterable[Clip], split: str) -> list[Clip]:
    """The clips of the one video whose path ends in this name. Raises DataError if there is none, or there are several."""
    wanted = PurePosixPath(video.removesuffix(SUFFIX)).parts
    names = {clip.video: PurePosixPath(clip.video.removesuffix(SUFFIX)).parts for clip in clips}
    found = [name for name, parts in names.items() if parts[len(parts) - len(wanted) :] == wanted]
    if not found:
        known = ", ".join(sorted({parts[-1] for parts in names.values()})[:5])
        raise DataError(f"no clip of a video {video} in data.{split}; there are {known}, ...")
    if len(found) > 1:
        raise DataError(
            f"{len(found)} videos of data.{split} are called {video}: {', '.join(sorted(found)[:5])}; say more of the path"
        )
    return [clip for clip in clips if clip.video == found[0]]


def _streamer(run: FinishedRun, task: Clip) -> Streamer:
    return Streamer(run.model, task, run.setup.maker(), run.thresholds, run.recipe.eval.on_full_context)
