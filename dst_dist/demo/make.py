"""`dst-dist demo`: a generated world on disk, in both public formats, and a tiny model to learn it.

Everything follows from the seed alone, byte for byte, whatever the number of worker processes.
"""

import base64
import json
import multiprocessing
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dst_dist.data.frames import write_frames
from dst_dist.demo.dialog import Video, proassist_samples, prospect_clips, render
from dst_dist.demo.model import train_tokenizer, write_model
from dst_dist.demo.painter import FRAME_SIZE, Painter, encode_jpeg
from dst_dist.demo.world import (
    DOMAINS,
    NEW_DOMAIN,
    SECOND_CHANCE,
    SECOND_CHANCE_IN_TRAINING,
    Domain,
    draw_schedule,
    draw_task,
)

PROASSIST_FOLDER = "proassist_demo"
GOALS_HELD_OUT = 4


@dataclass(frozen=True)
class Sizes:
    """How much is made: videos a domain and split, videos of the ProAssist file, clips a video, frames a clip.

    The new domain has a fifth of the others' videos to train on.
    """

    train: int = 360
    val: int = 10
    test: int = 10
    proassist: int = 12
    clips_per_video: int = 3
    frames_per_clip: int = 32

    def num_videos(self, domain: Domain, split: str) -> int:
        number: int = getattr(self, split)
        return max(1, number // 5) if split == "train" and domain == NEW_DOMAIN else number


def make_demo(out: Path | str, seed: int = 0, blank: bool = False, sizes: Sizes = Sizes(), workers: int = 2) -> None:
    """Write the demo below `out`: `model/`, a dataset folder for each domain, and `proassist_demo/`.

    Args:
        blank: the same text and frame counts, but every frame the same grey, for the control that
            shows what can be learned without looking.
        workers: processes that draw.
    """
    out = Path(out)
    files: dict[str, list[dict[str, Any]]] = defaultdict(list)
    videos = list(_plan_videos(seed, sizes))
    for video in videos:
        if video.folder == PROASSIST_FOLDER:
            files[f"{video.folder}/train.jsonl"] += proassist_samples(video, sizes.frames_per_clip)
        else:
            files[f"{video.folder}/{video.split}_training.json"] += prospect_clips(video, sizes.frames_per_clip)
    learned = [f"{domain.name}/train_training.json" for domain in DOMAINS]
    tokenizer = train_tokenizer(render(record) for name in learned for record in files[name])
    write_model(out / "model", tokenizer, seed)
    for name, records in files.items():
        for record in records:
            record["seq_len"] = len(tokenizer.encode(render(record)))
        _write_records(out / name, records)
    _draw_all(out, videos, blank, workers)


def _plan_videos(seed: int, sizes: Sizes) -> Iterator[Video]:
    for domain in (*DOMAINS, NEW_DOMAIN):
        for split in ("train", "val", "test"):
            for number in range(sizes.num_videos(domain, split)):
                yield _plan_video(seed, domain, split, number, sizes)
    for number in range(sizes.proassist):
        video = _plan_video(seed, DOMAINS[number % len(DOMAINS)], "proassist", number, sizes)
        yield replace(video, folder=PROASSIST_FOLDER)


def _plan_video(seed: int, domain: Domain, split: str, number: int, sizes: Sizes) -> Video:
    rng = random.Random(f"{seed}/{domain.name}/{split}/{number}")
    task = draw_task(rng, domain, _goals(seed, domain, split))
    second_chance = SECOND_CHANCE_IN_TRAINING if split == "train" else SECOND_CHANCE
    num_frames = sizes.clips_per_video * sizes.frames_per_clip
    moments = draw_schedule(rng, len(task.steps), num_frames, sizes.frames_per_clip, second_chance)
    first = next(n for n, moment in enumerate(moments) if not moment.transitions and not moment.error_starts)
    moments[first] = replace(moments[first], question="goal")
    uid = f"{domain.name}-{split}-{number:04d}"
    return Video(uid, domain.name, split, domain, task, tuple(moments), rng.getrandbits(64))


def _goals(seed: int, domain: Domain, split: str) -> list[str]:
    """The split's own goals: no task of validation or test is trained on."""
    goals = [f"{verb} the {thing}" for verb in domain.goal_verbs for thing in domain.goal_things]
    random.Random(f"{seed}/{domain.name}").shuffle(goals)
    held_out = {"val": goals[:GOALS_HELD_OUT], "test": goals[GOALS_HELD_OUT : 2 * GOALS_HELD_OUT]}
    return held_out.get(split, goals[2 * GOALS_HELD_OUT :])


def _write_records(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(record) + "\n" for record in records)
    else:
        text = json.dumps(records, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


def _draw_all(out: Path, videos: list[Video], blank: bool, workers: int) -> None:
    write = partial(_write_video, out, blank)
    if workers == 1:
        for video in videos:
            write(video)
        return
    # Forked: the workers need numpy and Pillow alone, and importing torch anew costs more than the drawing.
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for _ in pool.imap_unordered(write, videos, chunksize=4):
            pass


def _write_video(out: Path, blank: bool, video: Video) -> None:
    path = out / video.frames_file
    path.parent.mkdir(parents=True, exist_ok=True)
    jpegs = _blank_jpegs(len(video.moments)) if blank else _drawn_jpegs(video)
    if video.folder == PROASSIST_FOLDER:
        _write_base64_frames(path, jpegs)
    else:
        write_frames(path, jpegs)


def _write_base64_frames(path: Path, jpegs: Iterable[bytes]) -> None:
    """As the public ProAssist data has them."""
    table = pa.table({"frame": pa.array([base64.b64encode(jpeg).decode() for jpeg in jpegs], pa.string())})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _drawn_jpegs(video: Video) -> Iterator[bytes]:
    painter = Painter(video.frames_seed, video.task, video.domain.tint, video.domain.borrowed_colours)
    return (painter.draw(moment) for moment in video.moments)


def _blank_jpegs(count: int) -> Iterator[bytes]:
    grey = encode_jpeg(np.full((FRAME_SIZE, FRAME_SIZE, 3), 127, np.uint8), quality=90)
    return (grey for _ in range(count))
