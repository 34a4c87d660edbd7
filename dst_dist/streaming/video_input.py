"""Reads a video and a task from outside a data root, for streaming."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field

from dst_dist.data.clips import Clip, Step, Turn
from dst_dist.data.formats.initial_state import initial_state
from dst_dist.data.formats.prompt_words import PromptWords
from dst_dist.data.formats.prospect import State
from dst_dist.data.formats.schema import MAX_FRAME, Name, Raw, Text, shown, validate
from dst_dist.data.frames import STORAGES, open_frames
from dst_dist.data.image_folder import list_images
from dst_dist.data.images import DECODE_ERRORS, decode_image, preprocess
from dst_dist.data.reading_log import ClipLog, FileFaults, Report
from dst_dist.data.state import without_not_started
from dst_dist.data.video_files import read_container
from dst_dist.errors import DataError
from dst_dist.logs import logger


def read_video(path: Path, fps: float, size: int) -> Iterator[np.ndarray]:
    """Yield the frames of a video, uint8 [3, size, size].

    Args:
        path: an Arrow frames file (`.arrow`) or a folder of images in the order of their names, which are taken to be
            `fps` frames a second; or a video file, which is sampled (see `data/video_files.py: sample`).

    Raises:
        DataError: if there is no such video, or an image cannot be read.
        ConfigError: for a video file without PyAV.
    """
    if path.is_dir():
        images = map(_read_image, list_images(path))
    elif not path.is_file():
        raise DataError(f"{path}: no such video; name a frames file (.arrow), a folder of images or a video file")
    else:
        images = _read_rows(path) if path.suffix in STORAGES else read_container(path, fps)
    return (preprocess(image, size) for image in images)


def _read_image(path: Path) -> np.ndarray:
    try:
        return decode_image(path.read_bytes())
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error


def _read_rows(path: Path) -> Iterator[np.ndarray]:
    file = open_frames(str(path))
    for row in range(len(file)):
        try:
            yield file.image(row)
        except DECODE_ERRORS as error:
            raise DataError(f"{path}: frame {row} cannot be read: {error}") from error


class _Written(Raw):
    """A part of a task file; an unknown key is an error, because people write these files by hand."""

    model_config = ConfigDict(extra="forbid")


class _Step(_Written):
    id: Name
    name: Text


class _UserTurn(_Written):
    time_s: Annotated[float, Field(ge=0)]
    text: Text


def _as_objects(steps: Any) -> Any:
    """Return steps as objects: the n-th, if it is only a name, gets the id S<n>."""
    if not isinstance(steps, list):
        return steps
    return [{"id": f"S{n}", "name": step} if isinstance(step, str) else step for n, step in enumerate(steps, start=1)]


class _Task(_Written):
    goal: Text
    steps: Annotated[list[_Step], BeforeValidator(_as_objects)] = []
    prompt: str | None = None
    fps: Annotated[float, Field(ge=0.001, le=1000)] | None = None
    initial_dst_state: State | None = None
    user: list[_UserTurn] = []


def read_task(path: Path) -> Clip:
    """Read the task of a video, as a clip from frame 0 on without a real end: the video ends it.

    Args:
        path: a JSON object with `goal`, and optionally `steps` (names, or objects with `id` and `name`), `prompt`,
            `fps`, `initial_dst_state`, and `user`: a list of objects with `time_s` and `text`. A prompt with words
            of its own about the task is treated as a clip's.

    Raises:
        DataError: with all faults of the file.
    """
    faults, report = FileFaults(str(path)), Report()
    raw, log = _load(path), ClipLog(path.stem, faults, report)
    task = validate(_Task, raw, log)
    _check_ids(raw, log)
    if task is None or log.failed:
        raise DataError(faults.lines())
    fps, steps = task.fps or 2.0, tuple(Step(step.id, step.name) for step in task.steps)
    words = PromptWords(task.prompt or "", steps)
    state = without_not_started(initial_state(task.initial_dst_state, words.states, [], log))
    prompt = words.beside(task.goal, state, log)
    for line in report.lines():
        logger.warning("%s: %s", path, line)
    # A turn at a frame's very time comes after that frame, though the product may be a rounding below.
    turns = sorted(((int(turn.time_s * fps + 1e-6), turn.text) for turn in task.user), key=lambda turn: turn[0])
    return Clip(
        id=path.stem,
        dataset="",
        domain=None,
        video=path.stem,
        frames_path="",
        start_frame=0,
        end_frame=max([MAX_FRAME, *(frame + 1 for frame, _ in turns)]),
        fps=fps,
        prompt=prompt,
        goal=task.goal,
        steps=steps,
        initial_state=state,
        turns=tuple(Turn("user", text, (), frame, frame) for frame, text in turns),
        has_dst=bool(task.steps),
    )


def _load(path: Path) -> dict:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DataError(f"{path}: a task must be an object with a `goal`, found {shown(raw)}")
    return raw


def _check_ids(raw: dict, log: ClipLog) -> None:
    """Log faults of step ids in the raw file, so that they are reported together with its other faults."""
    steps, state = _as_objects(raw.get("steps")), raw.get("initial_dst_state")
    ids = [step.get("id") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    for step in dict.fromkeys(step for step in ids if isinstance(step, str) and ids.count(step) > 1):
        log.fault(f"`steps` has {shown(step)} more than once; give every step its own id")
    for step in state if isinstance(state, dict) else ():
        if step not in ids:
            log.fault(f"`initial_dst_state` names {shown(step)}, which is not among the steps")
