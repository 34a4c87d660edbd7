"""The first and the second start by the number of clips: time to the first batch, of all processors too, and memory.

`python -m tests.benchmarks.startup_speed [--clips 1000 10000 50000]`
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from dst_dist.data.batching import BatchPlan, MicroBatchSampler
from dst_dist.data.dataset import make_loader
from dst_dist.data.frames import write_frames
from dst_dist.demo.make import Sizes, make_demo
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.data.handmade import PROMPT, noise, spoken, step, update
from tests.launching import end_with_parent

CLIPS_PER_VIDEO, FRAMES_PER_CLIP, FRAMES_PER_VIDEO, NUM_STEPS = 50, 120, 600, 5
AGE_S = 60
TEXT = "take the long red screw and hold it over the second hole of the grey frame until it sits tight"


def make_root(root: Path, num_clips: int) -> None:
    """Write a model, and clips of 22 turns with the texts of an assembly; 50 clips share a video of 600 frames."""
    make_demo(root, sizes=Sizes(1, 1, 1, 1, 1, 16))
    rng = random.Random(0)
    jpegs = [make_jpeg(seed) for seed in range(50)]
    (root / "many").mkdir()
    with (root / "many/train_training.json").open("w") as file:
        file.write("[")
        for number in range(num_clips):
            file.write((", " if number else "") + json.dumps(make_clip(rng, number)))
        file.write("]")
    for video in range(-(-num_clips // CLIPS_PER_VIDEO)):
        write_frames(root / f"many/frames/v{video}.arrow", (rng.choice(jpegs) for _ in range(FRAMES_PER_VIDEO)))
    for path in root.rglob("*"):
        # What was written just now is not kept.
        os.utime(path, (time.time() - AGE_S,) * 2)


def make_jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise(seed, (48, 48)).save(buffer, "JPEG")
    return buffer.getvalue()


def make_clip(rng: random.Random, number: int) -> dict:
    def text(num_words: int) -> str:
        return " ".join(rng.choices(TEXT.split(), k=num_words))

    start = rng.randrange(FRAMES_PER_VIDEO - FRAMES_PER_CLIP)
    turns = [{"role": "system", "content": PROMPT}, spoken("user", text(12), start, start + 2)]
    for place in range(2 * NUM_STEPS):
        frame = start + 4 + 10 * place
        turns.append(update(f"S{place // 2 + 1}", ("start", "complete")[place % 2], frame, frame + 1))
        turns.append(spoken("assistant", text(20), frame, frame + 1))
    video = f"v{number // CLIPS_PER_VIDEO}"
    return {
        "dataset": "many",
        "video_uid": video,
        "clip_idx": number,
        "fps": 2,
        "frames_file": f"many/frames/{video}.arrow",
        "start_frame_idx": start,
        "end_frame_idx": start + FRAMES_PER_CLIP,
        "inferred_goal": text(6),
        "dst": [step(place, text(8)) for place in range(1, NUM_STEPS + 1)],
        "conversation": turns,
    }


def start(root: str) -> None:
    """Print the seconds to the first batch, and the processor time and memory that they took, as JSON."""
    words = ["demo", f"model.name_or_path={root}/model", f"data.root={root}", "data.train=[many]", "data.val=[]"]
    # The demo's recipe leaves its short reading to one process.
    recipe = load_recipe([*words, "data.max_seq_len=2048", "train.max_tokens=2048", "data.num_workers=auto"])
    # What the first use of the tokenizer imports is no part of it.
    DataSetup(recipe)
    # The imports' own peak is forgotten.
    Path("/proc/self/clear_refs").write_text("5")
    before_kib, before_cpu_s, started_s = peak_kib(), cpu_s(), time.perf_counter()
    setup = DataSetup(recipe)
    data = setup.datasets(setup.check())["train"]
    plan = BatchPlan(data.weights, recipe.train.global_batch_size, recipe.seed, data.fingerprint)
    sampler = MicroBatchSampler(plan, data.samples, setup.limits, 0, 1, start=0, stop=1)
    next(iter(make_loader(data, sampler, 0, torch.device("cpu"))))
    taken_s = time.perf_counter() - started_s
    taken = {"seconds": taken_s, "cpu_s": cpu_s() - before_cpu_s, "mib": (peak_kib() - before_kib) / 1024}
    print(json.dumps({**taken, "digests": data.digests()}))


def cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def started(root: str) -> dict:
    command = [sys.executable, "-m", "tests.benchmarks.startup_speed", "--start", root]
    return json.loads(
        subprocess.run(command, check=True, preexec_fn=end_with_parent, stdout=subprocess.PIPE).stdout.splitlines()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10000, 50000])
    parser.add_argument("--start", help="start once on this data root, and print what it took")
    options = parser.parse_args()
    if options.start:
        return start(options.start)
    columns = f"{'processor':>11} {'peak memory':>13}"
    print(f"{'clips':>7} {'first':>9} {columns} {'second':>9} {columns} {'first / second':>15}")
    for num_clips in options.clips:
        with tempfile.TemporaryDirectory() as root:
            make_root(Path(root), num_clips)
            first, second = started(root), started(root)
        assert first["digests"] == second["digests"]
        shown = [
            f"{value['seconds']:>7.2f} s {value['cpu_s']:>9.2f} s {value['mib']:>+9.0f} MiB"
            for value in (first, second)
        ]
        print(f"{num_clips:>7} {shown[0]} {shown[1]} {first['seconds'] / second['seconds']:>13.0f} x", flush=True)
    return None


if __name__ == "__main__":
    main()
