"""Trains the demo recipe on true labels and on labels that `dst-dist build` finds, and streams both on true test tasks.

    python -m tests.benchmarks.built_labels OUT

The demo's videos are told as raw dialogs (`tests/build/told.py`) and built, with their frames in place. The true clips
have the same frames and turns, and the true updates. Only changes that such a dialog can tell happen in the videos.
Both trainings take equally many steps from the same weights, in one process on one thread. Run again, it skips what is
done, but for the clips, which are built anew.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from dst_dist.build.make import Aligned, build, make_clips
from dst_dist.build.rates import Rate
from dst_dist.build.spans import Change
from dst_dist.data.reading_log import Report
from dst_dist.demo.dialog import Video, render
from dst_dist.demo.make import Sizes, draw_frames, plan_videos
from dst_dist.demo.model import train_tokenizer, write_model
from dst_dist.demo.world import DOMAINS, FPS
from tests.benchmarks.demo_choices import AS_IN_USE, QUICK, call
from tests.build.scoring import f1, overlap, read_transitions
from tests.build.told import carried, changes_of, tell

CLIP_S = 16.0
SPLITS = ("train", "val", "test")
LABELS = ("true", "training")
"""Files of true and of built labels: `<domain>/<split>_<labels>.json`."""


def plan(sizes: Sizes) -> list[Video]:
    """Return the demo's videos with the changes that a dialog can tell."""
    names = {domain.name for domain in DOMAINS}
    videos = (video for video in plan_videos(0, sizes) if video.folder in names)
    return [replace(video, moments=tuple(carried(video.moments))) for video in videos]


def make_labels(root: Path, videos: Iterable[Video]) -> dict[str, dict[str, Any]]:
    """Build the clips of told videos below `root`, and write the true ones beside them; returns how alike they are.

    The frames are there already: what lies beyond them is left out.
    """
    by_uid = {video.uid: video for video in videos}
    files = []
    for split in SPLITS:
        told = [tell(video, 0) for video in by_uid.values() if video.split == split]
        files.append(root / "raw" / f"{split}.json")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(json.dumps(told))
    built = build(files, root, float(FPS), clip_s=CLIP_S)
    true: dict[str, list[dict[str, Any]]] = {}
    scores = []
    for dialog in built.dialogs:
        video = by_uid[dialog.video.uid]
        clips, file = true_clips(dialog, video), f"{video.folder}/{video.split}"
        true.setdefault(f"{file}_true.json", []).extend(clips)
        found = [clip for clip in built.files[f"{file}_training.json"] if clip["video_uid"] == video.uid]
        scores.append(_alike(clips, found))
    for name, clips in true.items():
        (root / name).write_text(json.dumps(clips))
    return {"transition F1": mean(a for a, _ in scores), "overlap of spans": mean(b for _, b in scores)}


def true_clips(dialog: Aligned, video: Video) -> list[dict[str, Any]]:
    """Return the clips of a dialog with the true updates instead of those found."""
    changes = [Change(*change) for change in changes_of(video.moments)]
    rate = Rate(float(FPS), len(video.moments))
    return make_clips(replace(dialog, changes=changes), rate, CLIP_S, Report())


def _alike(true: list[dict[str, Any]], built: list[dict[str, Any]]) -> tuple[float, float]:
    gold, found = read_transitions(true), read_transitions(built)
    end = true[-1]["end_frame_idx"] / FPS
    return f1(gold, found), overlap(gold, found, [step["id"] for step in true[0]["dst"]], end)


def make_model(root: Path) -> None:
    """Write a model whose tokenizer knows the words of the true training clips."""
    files = [root / f"{domain.name}/train_true.json" for domain in DOMAINS]
    clips = [clip for file in files for clip in json.loads(file.read_text())]
    write_model(root / "model", train_tokenizer(map(render, clips)), seed=0)


def run(out: Path, labels: str, words: Iterable[str]) -> dict[str, float]:
    """Train on labels and stream on the true test tasks, or read an earlier result."""
    result, folder, root = out / f"{labels}.json", out / "runs" / labels, out / "data"
    if not result.exists():
        names = {
            split: ", ".join(f"{domain.name}/{split}_{kind}.json" for domain in DOMAINS)
            for split, kind in (("train", labels), ("val", labels), ("test", "true"))
        }
        data = [f"data.{split}=[{files}]" for split, files in names.items()]
        at = (f"model.name_or_path={root}/model", f"data.root={root}", f"output_dir={folder}", *data)
        seconds = call("dst_dist.train", "demo", *at, *QUICK, *words)
        call("dst_dist", "evaluate", str(folder), "--split", "test", "--streaming", *AS_IN_USE)
        figures = json.loads((folder / "evaluation/test-streaming.json").read_text())
        kept = ("transition/f1", "joint_goal_accuracy/frames", "dst_update/false_per_minute")
        result.write_text(json.dumps({key: figures[key] for key in kept} | {"seconds": seconds}))
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--videos", type=int, default=250, help="of each of the three domains, to train on")
    parser.add_argument("--labels", nargs="*", choices=LABELS, default=LABELS, help="only these trainings")
    parser.add_argument("words", nargs="*", help="overrides of the recipe, key=value, as in train.max_steps=900")
    options = parser.parse_intermixed_args()
    out = options.out.resolve()
    videos = plan(Sizes(train=options.videos, val=6, test=10))
    for video in videos:
        if not (out / "data" / video.frames_file).exists():
            draw_frames(out / "data", False, video)
    alike = make_labels(out / "data", videos)
    print("built next to true labels: " + ", ".join(f"{name} {value:.3f}" for name, value in alike.items()), flush=True)
    if not (out / "data/model").exists():
        make_model(out / "data")
    found = {labels: run(out, labels, options.words) for labels in options.labels}
    for labels, figures in found.items():
        print(f"{labels}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    if len(found) == len(LABELS):
        print(f"ratio of transition F1: {found['training']['transition/f1'] / found['true']['transition/f1']:.3f}")


if __name__ == "__main__":
    main()
