"""`dst-dist demo`: a generated world on disk, in both public formats, and a tiny model to learn it.

The seed alone decides every byte, whatever the number of worker processes.
"""

import base64
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from dst_dist.data.forks import in_workers
from dst_dist.data.frames import GREY, write_frames
from dst_dist.data.images import encode_jpeg
from dst_dist.demo.dialog import Video, proassist_samples, prospect_clips, render
from dst_dist.demo.model import train_tokenizer, write_model
from dst_dist.demo.objects import ObjectsPainter
from dst_dist.demo.painter import FRAME_SIZE, Painter
from dst_dist.demo.world import DOMAINS, NEW_DOMAIN, OBJECTS, SLOTS, Domain, World, draw_schedule, draw_task

PROASSIST_FOLDER = "proassist_demo"
PAINTERS = {SLOTS: Painter, OBJECTS: ObjectsPainter}
NUM_HELD_OUT_GOALS = 4
"""Goals of a domain for validation only, and as many for test only."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a demo: videos per domain and split, videos of the ProAssist file, clips per video, frames per clip.

    The new domain has a fifth of the others' training videos.
    """

    train: int = 360
    val: int = 10
    test: int = 10
    proassist: int = 12
    clips_per_video: int = 3
    frames_per_clip: int = 32


def make_demo(
    out: Path | str, seed: int = 0, blank: bool = False, sizes: Sizes = Sizes(), workers: int = 2, world: World = SLOTS
) -> None:
    """Write the demo below `out`: `model/`, a dataset folder for each domain, and `proassist_demo/`.

    Args:
        blank: write the same text and frame counts, but make every frame the same grey, for the control that
            shows what can be learned without looking.
        workers: processes that draw.
        world: SLOTS or OBJECTS.
    """
    out = Path(out)
    files: dict[str, list[dict[str, Any]]] = defaultdict(list)
    videos = list(plan_videos(seed, sizes, world))
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
    num_frames = [len(video.moments) for video in videos]
    for _ in in_workers(partial(draw_frames, out, blank), videos, num_frames, "frames drawn", workers):
        pass


def plan_videos(seed: int, sizes: Sizes, world: World = SLOTS) -> Iterator[Video]:
    """Yield the demo's videos before they are drawn."""
    for domain in (*DOMAINS, NEW_DOMAIN):
        num_train = sizes.train if domain != NEW_DOMAIN else max(1, sizes.train // 5)
        for split, num_videos in (("train", num_train), ("val", sizes.val), ("test", sizes.test)):
            for number in range(num_videos):
                yield _plan_video(seed, world, domain, split, number, sizes)
    for number in range(sizes.proassist):
        video = _plan_video(seed, world, DOMAINS[number % len(DOMAINS)], "proassist", number, sizes)
        yield replace(video, folder=PROASSIST_FOLDER)


def _plan_video(seed: int, world: World, domain: Domain, split: str, number: int, sizes: Sizes) -> Video:
    rng = random.Random(f"{seed}/{domain.name}/{split}/{number}")
    rules = world.training if split == "train" else world.elsewhere
    task = draw_task(rng, domain, _goals(seed, domain, split), world, rules)
    num_frames = sizes.clips_per_video * sizes.frames_per_clip
    moments = draw_schedule(rng, len(task.steps), num_frames, sizes.frames_per_clip, rules)
    first = next(n for n, moment in enumerate(moments) if not moment.transitions and not moment.error_starts)
    moments[first] = replace(moments[first], question="goal")
    uid = f"{domain.name}-{split}-{number:04d}"
    return Video(uid, domain.name, split, domain, task, tuple(moments), rng.getrandbits(64), world)


def _goals(seed: int, domain: Domain, split: str) -> list[str]:
    """Return the goals of a split: no task of validation or test is trained on."""
    goals = [f"{verb} the {thing}" for verb in domain.goal_verbs for thing in domain.goal_things]
    random.Random(f"{seed}/{domain.name}").shuffle(goals)
    held_out = {"val": goals[:NUM_HELD_OUT_GOALS], "test": goals[NUM_HELD_OUT_GOALS : 2 * NUM_HELD_OUT_GOALS]}
    return held_out.get(split, goals[2 * NUM_HELD_OUT_GOALS :])


def _write_records(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(record) + "\n" for record in records)
    else:
        text = json.dumps(records, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


def draw_frames(out: Path, blank: bool, video: Video) -> None:
    """Draw a video and write its frames file: base64 strings in the ProAssist folder, as its public data has them."""
    path = out / video.frames_file
    path.parent.mkdir(parents=True, exist_ok=True)
    if blank:
        grey = Image.new("RGB", (FRAME_SIZE, FRAME_SIZE), (GREY, GREY, GREY))
        jpegs = [encode_jpeg(grey, quality=90)] * len(video.moments)
    else:
        painter = PAINTERS[video.world](video.frames_seed, video.task, video.domain)
        jpegs = [painter.draw(moment) for moment in video.moments]
    if video.folder != PROASSIST_FOLDER:
        write_frames(path, jpegs)
        return
    table = pa.table({"frame": [base64.b64encode(jpeg).decode() for jpeg in jpegs]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
