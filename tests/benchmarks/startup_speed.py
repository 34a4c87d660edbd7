"""A first and a second start by the number of clips, next to reading everything as every process once did.

`python -m tests.benchmarks.startup_speed [--clips 1000 10000] [--root FOLDER]`
"""

import json
import random
from pathlib import Path

from dst_dist.data.frames import write_frames
from dst_dist.demo.make import Sizes, make_demo
from tests.data.handmade import PROMPT, spoken, step, update

CLIPS_PER_VIDEO, FRAMES_PER_CLIP, FRAMES_PER_VIDEO, NUM_STEPS = 50, 120, 600, 5
WORDS = [
    "take",
    "the",
    "long",
    "red",
    "screw",
    "and",
    "hold",
    "it",
    "over",
    "the",
    "second",
    "hole",
    "of",
    "the",
    "grey",
    "frame",
    "until",
    "it",
    "sits",
    "tight",
]


def make_root(root: Path, num_clips: int) -> None:
    """Write a model, and clips of 22 turns with the texts of an assembly; 50 clips share a video of 600 frames."""
    make_demo(root, sizes=Sizes(1, 1, 1, 1, 1, 16))
    rng = random.Random(0)
    clips = [make_clip(rng, number) for number in range(num_clips)]
    (root / "many").mkdir()
    (root / "many/train_training.json").write_text(json.dumps(clips), encoding="utf-8")
    jpegs = [make_jpeg(rng) for _ in range(50)]
    for video in range(-(-num_clips // CLIPS_PER_VIDEO)):
        write_frames(root / f"many/frames/v{video}.arrow", (rng.choice(jpegs) for _ in range(FRAMES_PER_VIDEO)))


def make_clip(rng: random.Random, number: int) -> dict:
    def text(num_words: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(num_words))

    start = rng.randrange(FRAMES_PER_VIDEO - FRAMES_PER_CLIP)
    turns = [{"role": "system", "content": PROMPT}, spoken("user", text(12), start, start + 2)]
    frame = start + 4
    for number_of_step in range(1, NUM_STEPS + 1):
        for transition in ("start", "complete"):
            turns.append(update(f"S{number_of_step}", transition, frame, frame + 1))
            turns.append(spoken("assistant", text(20), frame, frame + 1))
            frame += 10
    return {
        "dataset": "many",
        "video_uid": f"v{number // CLIPS_PER_VIDEO}",
        "clip_idx": number,
        "fps": 2,
        "frames_file": f"many/frames/v{number // CLIPS_PER_VIDEO}.arrow",
        "start_frame_idx": start,
        "end_frame_idx": start + FRAMES_PER_CLIP,
        "inferred_goal": text(6),
        "dst": [step(place, text(8)) for place in range(1, NUM_STEPS + 1)],
        "conversation": turns,
    }
