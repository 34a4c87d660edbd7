"""Make the GPU table: every engine trains the true shapes for a few steps through `accelerate launch`.

    bash tests/gpu/run.sh           one GPU, no network, meant for under five minutes
    bash tests/gpu/run.sh --tiny    the same rows with a tiny model on the CPU, to try the script itself

The rows of a model under one engine share a process, and save nothing. Beside them one training is killed, continued,
evaluated and streamed. Prints the table with the card's name and writes it to a file; exits 1 if a row fails or a
comparison is off. A script that is ended takes its trainings with it.
"""

import argparse
import json
import math
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
import transformers

from dst_dist.paths import path_argument
from tests.gpu.equality import Check, check_model
from tests.gpu.journey import Stage, stages
from tests.gpu.make_models import SHAPES, VAL_CLIPS, write_clips, write_model
from tests.launching import launch

NUM_STEPS = 5
LIMIT_S, TINY_LIMIT_S = 300, 600
"""Seconds that a launch may take; its first step compiles."""
FIRST_LOSS_TOLERANCE = 0.01
"""Share by which the first losses of one model may differ between engines and modes: only bf16 rounds."""


class Row(NamedTuple):
    """One training run. With --tiny, a row trains the tiny model under its own engine and mode."""

    model: str
    engine: str
    mode: str
    checkpointing: bool

    @property
    def key(self) -> str:
        """Its name among the rows of its model and engine."""
        return f"{self.mode}-{'on' if self.checkpointing else 'off'}"

    @property
    def name(self) -> str:
        return f"{self.model} {self.engine} {self.key.replace('-', ' ')}"


ROWS = [
    *(
        Row("256M", engine, mode, checkpointing)
        for engine in ("ddp", "zero2", "fsdp")
        for mode in ("lora", "full")
        for checkpointing in (True, False)
    ),
    Row("2.2B", "zero2", "full", True),
    Row("2.2B", "fsdp", "full", True),
    Row("2.2B", "ddp", "lora", True),
]


@dataclass
class Result:
    """The result of a row: the `metrics.jsonl` lines of its training steps, or why it failed."""

    row: Row
    seconds: float
    steps: list[dict]
    fault: str | None = None

    @property
    def losses(self) -> list[float]:
        return [step["loss"] for step in self.steps]

    def rate(self, key: str) -> float:
        """Return the median over the steps after the first, which warms up."""
        return statistics.median(step[key] for step in self.steps[1:])


def make_inputs(work: Path, names: Iterable[str], device: str) -> None:
    """Write model folders and clips of the named shapes below `work`, unless they are there."""
    for name in names:
        done = work / name / ".complete"
        if not done.exists():
            write_model(work / name / "model", SHAPES[name], device)
            write_clips(work / name / "data", SHAPES[name])
            done.touch()
    # The training processes need the memory that this one's allocator still holds; without a GPU this does nothing.
    torch.cuda.empty_cache()


def common_words(model: str, work: Path, tiny: bool) -> list[str]:
    """Return the words that all trainings of a model share."""
    shape = SHAPES[model]
    return [
        f"model.name_or_path={work / model / 'model'}",
        f"model.tokens_per_frame={shape.tokens_per_frame}",
        f"data.root={work / model / 'data'}",
        "data.train=[synthetic]",
        "data.val=[]",
        f"data.num_workers={0 if tiny else 4}",
        "labels.neg_frame_sampling_rate=1.0",
        # Small enough for random weights of width 2048 and a warm-up of two steps.
        "optim.learning_rate=2e-5",
        "optim.warmup_steps=2",
        "optim.schedule=constant",
        f"train.max_steps={NUM_STEPS}",
        f"train.global_batch_size={shape.clips}",
        f"train.max_tokens={shape.max_tokens}",
        f"train.max_frames={shape.max_frames}",
        # A CPU without bf16 arithmetic would need minutes for tiny models.
        f"train.precision={'fp32' if tiny else 'bf16'}",
        f"eval.max_clips={VAL_CLIPS}",
        "log.report_to=[]",
    ]


def run_rows(rows: Sequence[Row], work: Path, tiny: bool) -> list[Result]:
    """Train rows of one model and engine in one process; the log stays below `work`."""
    first = rows[0]
    folder = work / "runs" / f"{first.model}-{first.engine}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = {row.key: [row.mode, f"train.gradient_checkpointing={str(row.checkpointing).lower()}"] for row in rows}
    words = common_words("tiny" if tiny else first.model, work, tiny)
    engine, limit_s = f"{'cpu_' if tiny else ''}{first.engine}", TINY_LIMIT_S if tiny else LIMIT_S
    try:
        launch(engine, words, folder, 1, ("tests.gpu.rows", json.dumps(own)), limit_s)
    except AssertionError as error:
        print(error, file=sys.stderr)
    log = folder.with_name(f"{folder.name}.output")
    return [_result(row, folder, log) for row in rows]


def _result(row: Row, folder: Path, log: Path) -> Result:
    ended = [line for line in _lines(folder / "rows.jsonl") if line["name"] == row.key]
    if not ended:
        return Result(row, 0.0, [], f"did not end, see {log}")
    steps = [line for line in _lines(folder / row.key / "metrics.jsonl") if line["split"] == "train"]
    result = Result(row, ended[0]["seconds"], steps, ended[0]["fault"])
    if result.fault is None:
        result.fault = _fault(result)
    return result


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _fault(result: Result) -> str | None:
    if len(result.losses) != NUM_STEPS:
        return f"{len(result.losses)} steps of {NUM_STEPS}"
    if not all(map(math.isfinite, result.losses)):
        return "a loss is not finite"
    return None if result.losses[-1] < result.losses[0] else "the loss does not fall on the same clips"


def find_disagreements(results: Sequence[Result]) -> list[str]:
    """Return the rows whose first loss differs: before an update all rows of a model have the same loss."""
    faults = []
    for model in dict.fromkeys(result.row.model for result in results):
        first = {result.row.name: result.losses[0] for result in results if result.row.model == model and result.losses}
        for name, loss in first.items():
            middle = statistics.median(first.values())
            if abs(loss - middle) > FIRST_LOSS_TOLERANCE * middle:
                faults.append(f"{name}: first loss {loss:.4f}, but {middle:.4f} is the median of its model's rows")
    return faults


def device_name(tiny: bool) -> str:
    """The card's name, or that there is none."""
    return "CPU, a tiny model in place of each" if tiny else torch.cuda.get_device_name()


def render(
    device: str, results: Sequence[Result], checks: Sequence[Check], journey: Sequence[Stage], faults: Sequence[str]
) -> str:
    """Return the tables in Markdown."""
    lines = [
        f"**{device}**, torch {torch.__version__}, one process, bf16, random weights",
        "",
        "| model | engine | mode | checkpointing | steps "
        "| first loss | last loss | tokens/s | frames/s | peak GiB | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_line, results),
        "",
        "| model | comparison | largest relative difference | limit | |",
        "|---|---|---|---|---|",
    ]
    for check in checks:
        verdict = "ok" if check.is_good else "**off**"
        lines.append(f"| {check.model} | {check.name} | {check.difference:.2e} | {check.limit:.0e} | {verdict} |")
    lines += ["", "| one training | | |", "|---|---|---|"]
    lines += [f"| {stage.name} | {stage.result} | {'ok' if stage.is_good else '**off**'} |" for stage in journey]
    return "\n".join([*lines, *(f"\n**{fault}**" for fault in faults)]) + "\n"


def _line(result: Result) -> str:
    row = result.row
    cells = [row.model, row.engine, row.mode, "on" if row.checkpointing else "off", str(len(result.steps))]
    if result.fault is None:
        cells += [f"{result.losses[0]:.3f}", f"{result.losses[-1]:.3f}"]
        cells += [f"{result.rate('tokens_per_s'):,.0f}", f"{result.rate('frames_per_s'):,.0f}"]
        cells += [f"{max(step['peak_memory_gib'] for step in result.steps):.1f}", f"{result.seconds:.0f}"]
    else:
        cells += [f"**{result.fault.replace('|', '/')}**", "", "", "", "", f"{result.seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if a row fails or a comparison is off, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="bash tests/gpu/run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU, with launch/cpu_*.yaml")
    parser.add_argument("--work", type=path_argument, default=Path("runs/gpu"), help="where models, clips and runs go")
    parser.add_argument("--table", type=path_argument, help="where the table is written (WORK/table.md)")
    parser.add_argument("--only", default="", help="words that a row must have, for example '256M fsdp lora'")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        print("no GPU here, so nothing was run; --tiny tries the script on the CPU", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if set(options.only.split()) <= set(row.name.split())]
    if not rows:
        print(f"no row has all of: {options.only}", file=sys.stderr)
        return 2
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # Ended from outside it unwinds, and so ends the training that runs.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return 0 if make_table(rows, options) else 1


def make_table(rows: Sequence[Row], options: argparse.Namespace) -> bool:
    """Run rows, one training's stages and comparisons, print and write the table; return whether all are good."""
    started_s = time.perf_counter()
    work, tiny = options.work.absolute(), options.tiny
    names = ["tiny"] if tiny else list(dict.fromkeys(row.model for row in rows))
    make_inputs(work, names, "cpu" if tiny else "cuda")
    results = list(_results(rows, work, tiny))
    journey = []
    for stage in stages(common_words(names[0], work, tiny), work / "runs" / "journey", tiny):
        journey.append(stage)
        print(stage, flush=True)
    checks = [check for name in names for check in check_model(name, work / name / "model", "cpu" if tiny else "cuda")]
    faults = find_disagreements(results)
    text = render(device_name(tiny), results, checks, journey, faults)
    path = options.table or work / "table.md"
    path.write_text(text)
    print(f"\n{text}\n{time.perf_counter() - started_s:.0f} s in all, written to {path}")
    good = [check.is_good for check in checks] + [stage.is_good for stage in journey]
    return not faults and all(result.fault is None for result in results) and all(good)


def _results(rows: Sequence[Row], work: Path, tiny: bool) -> Iterator[Result]:
    for _, of_engine in groupby(rows, key=lambda row: (row.model, row.engine)):
        for result in run_rows(list(of_engine), work, tiny):
            print(_line(result), flush=True)
            yield result


if __name__ == "__main__":
    sys.exit(main())
