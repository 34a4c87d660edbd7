"""`dst-dist demo`: a generated world on disk, in both public formats, and a tiny model to learn it.

Everything follows from the seed alone, byte for byte, whatever the number of worker processes.
"""

import base64
import json
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from dst_dist.data.demo_dialog import Video, proassist_samples, prospect_clips, tokenizer_texts
from dst_dist.data.demo_model import train_tokenizer, write_model
from dst_dist.data.demo_world import DOMAINS, FRAME_SIZE, Domain, Painter, draw_schedule, draw_task, encode_jpeg

SPLITS = ("train", "val", "test")
GOALS_HELD_OUT = 4
PROASSIST_FOLDER = "proassist_demo"


@dataclass(frozen=True)
class Sizes:
    """How much is made: videos of each split in each domain, clips a video, frames a clip."""

    train: int = 170
    val: int = 10
    test: int = 10
    proassist: int = 12
    clips_per_video: int = 3
    frames_per_clip: int = 32


def make_demo(out: Path, seed: int = 0, blank: bool = False, sizes: Sizes = Sizes(), workers: int = 2) -> None:
    """Write the demo below `out`: `model/`, a dataset folder for each domain, and `proassist_demo/`.

    Args:
        blank: the same text and frame counts, but every frame the same grey, for the control that
            shows what can be learned without looking.
        workers: processes that draw.
    """
    out = Path(out)
    videos = {
        (domain.name, split): [_plan_video(seed, domain, split, number, sizes) for number in range(getattr(sizes, split))]
        for domain in DOMAINS
        for split in SPLITS
    }
    dialogs = [
        replace(_plan_video(seed, DOMAINS[number % len(DOMAINS)], "proassist", number, sizes), folder=PROASSIST_FOLDER)
        for number in range(sizes.proassist)
    ]
    clips = {key: [clip for video in some for clip in prospect_clips(video, sizes.frames_per_clip)] for key, some in videos.items()}
    samples = [sample for video in dialogs for sample in proassist_samples(video, sizes.frames_per_clip)]
    train_clips = [clip for (_, split), some in clips.items() if split == "train" for clip in some]
    write_model(out / "model", train_tokenizer(text for clip in train_clips for text in tokenizer_texts(clip)), seed)
    for (name, split), some in clips.items():
        _write_text(out / name / f"{split}_training.json", json.dumps(some, indent=1) + "\n")
    _write_text(out / PROASSIST_FOLDER / "train.jsonl", "".join(json.dumps(sample) + "\n" for sample in samples))
    _draw_all(out, [video for some in videos.values() for video in some] + dialogs, blank, workers)


def _plan_video(seed: int, domain: Domain, split: str, number: int, sizes: Sizes) -> Video:
    rng = random.Random(f"{seed}/{domain.name}/{split}/{number}")
    task = draw_task(rng, domain, _goals(seed, domain, split))
    moments = draw_schedule(rng, len(task.steps), sizes.clips_per_video * sizes.frames_per_clip)
    first = next(n for n, moment in enumerate(moments) if not moment.transitions and not moment.error_starts)
    moments[first] = replace(moments[first], question="goal")
    uid = f"{domain.name}-{split}-{number:04d}"
    return Video(uid, domain.name, domain, task, tuple(moments), rng.getrandbits(64))


def _goals(seed: int, domain: Domain, split: str) -> list[str]:
    """The split's own goals: no task is in two splits."""
    goals = [f"{verb} the {thing}" for verb in domain.goal_verbs for thing in domain.goal_things]
    random.Random(f"{seed}/{domain.name}").shuffle(goals)
    parts = {"val": goals[:GOALS_HELD_OUT], "test": goals[GOALS_HELD_OUT : 2 * GOALS_HELD_OUT]}
    return parts.get(split, goals[2 * GOALS_HELD_OUT :])


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _draw_all(out: Path, videos: list[Video], blank: bool, workers: int) -> None:
    for folder in {video.folder for video in videos}:
        (out / folder / "frames").mkdir(parents=True, exist_ok=True)
    write = partial(_write_video, out, blank)
    if workers == 1:
        for video in videos:
            write(video)
        return
    # Forked: the workers need numpy and Pillow alone, and importing torch anew would cost more than the drawing.
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for _ in pool.imap_unordered(write, videos, chunksize=4):
            pass


def _write_video(out: Path, blank: bool, video: Video) -> None:
    jpegs = _blank_jpegs(len(video.moments)) if blank else _drawn_jpegs(video)
    if video.folder == PROASSIST_FOLDER:
        column = pa.array([base64.b64encode(jpeg).decode() for jpeg in jpegs], pa.string())
    else:
        column = pa.array(list(jpegs), pa.binary())
    table = pa.table({"frame": column})
    with pa.OSFile(str(out / video.frames_file), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _drawn_jpegs(video: Video) -> Iterator[bytes]:
    painter = Painter(video.frames_seed, video.task, video.domain.tint)
    return (painter.draw(moment) for moment in video.moments)


def _blank_jpegs(count: int) -> Iterator[bytes]:
    grey = encode_jpeg(np.full((FRAME_SIZE, FRAME_SIZE, 3), 127, np.uint8), quality=90)
    return (grey for _ in range(count))
