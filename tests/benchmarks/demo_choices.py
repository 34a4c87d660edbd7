"""Measure what each choice of the demo gives, and adapting to its new domain, as two markdown tables.

    python -m tests.benchmarks.demo_choices choices OUT
    python -m tests.benchmarks.demo_choices new-domain OUT --start runs/demo/final

Every row is a training from the same start over equally many steps (`choices`: half the recipe's steps and batch),
in one process on one thread, measured on the unseen test tasks. Run again, it skips the rows that are done; `--rows`
runs only some. The first call makes `OUT/demo`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from dst_dist.demo.make import make_demo
from dst_dist.demo.model import write_model
from dst_dist.demo.world import DOMAINS
from tests.launching import end_with_parent

AS_IN_USE = ("data.frames=continuous", "labels.positive_frames=last")
QUICK = ("eval.every_steps=100000", "checkpoint.every_steps=100000", "log.report_to=[]")
SHORTER = ("train.max_steps=700", "train.global_batch_size=5")
EARLY, LEAD_FRAMES = "early.json", 2
LABORATORY = (
    "data.train=[laboratory]",
    "data.val=[laboratory]",
    "data.test=[laboratory]",
    "train.max_steps=300",
    "optim.warmup_steps=20",
)


@dataclass(frozen=True)
class Row:
    """A training: its words after the recipe `demo`, and the demo's model that it starts from."""

    title: str
    words: tuple[str, ...] = ()
    model: str = "model"


CHOICES = {
    "base": Row("as the recipe: one token a frame, all negatives, `balance: classes`, `positive_frames: last`"),
    "negatives": Row("`neg_frame_sampling_rate: 0.1`", ("labels.neg_frame_sampling_rate=0.1",)),
    "plain": Row("`balance: none`", ("labels.balance=none",)),
    "all": Row(
        f"`positive_frames: all`, turns from {LEAD_FRAMES} frames before",
        ("labels.positive_frames=all", f"data.train=[{', '.join(f'{domain.name}/{EARLY}' for domain in DOMAINS)}]"),
    ),
    "event": Row("`frames: event`", ("data.frames=event",)),
    "grid-1": Row("grid of 3 x 3, pooled to K=1", ("model.tokens_per_frame=1",), "grid"),
    "grid-9": Row("grid of 3 x 3, K=9", ("model.tokens_per_frame=9",), "grid"),
}
NEW_DOMAIN = {
    "zero-shot": Row("before any tuning", ("train.max_steps=1", "optim.learning_rate=0")),
    "full": Row("full"),
    "lora": Row(
        "LoRA, with connector and heads",
        ("finetune.mode=lora", "finetune.train.vision=false", "finetune.lora.rank=16", "finetune.lora.alpha=32"),
    ),
}
COLUMNS = {
    "update AP": ("teacher_forced", "dst_update/average_precision_at_frames"),
    "speaking AP": ("teacher_forced", "speaking/average_precision_at_frames"),
    "exact updates": ("teacher_forced", "update/exact_match"),
    "transition F1": ("streaming", "transition/f1"),
    "joint goal": ("streaming", "joint_goal_accuracy/frames"),
    "false updates a minute": ("streaming", "dst_update/false_per_minute"),
    "false replies a minute": ("streaming", "speaking/false_per_minute"),
}


def make_inputs(out: Path) -> None:
    """Make the demo below `out`, with what some rows need in addition."""
    if not (out / "demo").exists():
        make_demo(out / "unfinished")
        add_variants(out / "unfinished")
        (out / "unfinished").rename(out / "demo")


def add_variants(demo: Path) -> None:
    """Write training clips with turns that begin earlier, and a model with a grid of 3 x 3."""
    for path in demo.glob("*/train_training.json"):
        clips = json.loads(path.read_text())
        for clip in clips:
            _begin_earlier(clip)
        path.with_name(EARLY).write_text(json.dumps(clips))
    write_model(demo / "grid", AutoTokenizer.from_pretrained(demo / "model"), seed=0, scale_factor=1)


def _begin_earlier(clip: dict[str, Any]) -> None:
    """Move the start of updates and unasked replies; an answer cannot come before its question."""
    for turn in clip["conversation"]:
        if turn["labels"].startswith("initiative"):
            turn["start_frame"] = max(clip["start_frame_idx"], turn["start_frame"] - LEAD_FRAMES)


def run(out: Path, name: str, row: Row, words: Sequence[str]) -> dict[str, float]:
    """Train and measure one row, or read its earlier result: its columns, and `seconds` of processor time."""
    result = out / f"{name}.json"
    if not result.exists():
        print(f"{name}: {row.title}", flush=True)
        folder = out / "runs" / name
        at = (f"model.name_or_path={out}/demo/{row.model}", f"data.root={out}/demo", f"output_dir={folder}")
        seconds = call("dst_dist.train", "demo", *at, *QUICK, *words, *row.words)
        call("dst_dist", "evaluate", str(folder), "--split", "test", *AS_IN_USE)
        call("dst_dist", "evaluate", str(folder), "--split", "test", "--streaming", *AS_IN_USE)
        result.write_text(json.dumps(_figures(folder / "evaluation") | {"seconds": seconds}))
    return json.loads(result.read_text())


def _figures(evaluation: Path) -> dict[str, float | None]:
    files = {
        kind: json.loads((evaluation / f"test-{kind}.json").read_text()) for kind in ("teacher_forced", "streaming")
    }
    return {title: files[kind].get(key) for title, (kind, key) in COLUMNS.items()}


def call(*words: str) -> float:
    """Run a module of the package; return the seconds of processor time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", *words], check=True, preexec_fn=end_with_parent, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("choices", "new-domain"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, help="new-domain: final/ of a run of the recipe `demo` to go on from")
    parser.add_argument("--rows", nargs="+", help="only these rows")
    options = parser.parse_args()
    out = options.out.resolve()
    make_inputs(out)
    if options.table == "choices":
        rows, words = CHOICES, SHORTER
    else:
        rows, words = NEW_DOMAIN, (*LABORATORY, f"model.name_or_path={options.start.resolve()}")
    lines = [_line("", [*COLUMNS, "seconds"]), _line("---", ["---"] * (len(COLUMNS) + 1))]
    for name in options.rows or rows:
        figures = run(out, name, rows[name], words)
        cells = ["" if figures[title] is None else f"{figures[title]:.3f}" for title in COLUMNS]
        lines.append(_line(rows[name].title, [*cells, f"{figures['seconds']:.0f}"]))
    print("\n".join(lines))


def _line(title: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([title, *cells])} |"


if __name__ == "__main__":
    main()
