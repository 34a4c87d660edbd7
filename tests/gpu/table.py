"""Make the GPU table: every engine trains the true shapes for a few steps through `accelerate launch`.

    bash tests/gpu/run.sh           one GPU, no network, under ten minutes
    bash tests/gpu/run.sh --tiny    the same rows with a tiny model on the CPU, to try the script itself

Prints the table with the card's name and writes it to a file; exits 1 if a row fails or a comparison is off.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import transformers

from dst_dist.paths import path_argument
from tests.gpu.equality import Check, check_model
from tests.gpu.make_models import SHAPES, VAL_CLIPS, write_clips, write_model
from tests.launching import run_to_end

ROOT = Path(__file__).parents[2]
NUM_STEPS = 5
ROW_LIMIT_S, TINY_ROW_LIMIT_S = 300, 600
"""Seconds that a row may take; its first step compiles. A CPU without bf16 arithmetic needs minutes for tiny models."""
FIRST_LOSS_TOLERANCE = 0.01
"""Share by which the first losses of one model may differ between engines and modes: only bf16 rounds."""


class Row(NamedTuple):
    """One training run. With --tiny, a row trains the tiny model under its own engine and mode."""

    model: str
    engine: str
    mode: str
    checkpointing: bool

    @property
    def name(self) -> str:
        return f"{self.model} {self.engine} {self.mode} {'on' if self.checkpointing else 'off'}"


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


def command(row: Row, work: Path, tiny: bool) -> list[str]:
    """Return the `accelerate launch` command of a row."""
    name = "tiny" if tiny else row.model
    shape = SHAPES[name]
    return [
        "accelerate",
        "launch",
        "--config_file",
        f"launch/{'cpu_' if tiny else ''}{row.engine}.yaml",
        "--num_processes",
        "1",
        "--main_process_port",
        "0",
        "-m",
        "dst_dist.train",
        row.mode,
        f"output_dir={_run_folder(row, work)}",
        f"model.name_or_path={work / name / 'model'}",
        f"model.tokens_per_frame={shape.tokens_per_frame}",
        f"data.root={work / name / 'data'}",
        "data.train=[synthetic]",
        "data.val=[synthetic]",
        f"data.num_workers={0 if tiny else 4}",
        "labels.neg_frame_sampling_rate=1.0",
        "optim.learning_rate=1e-4",
        "optim.warmup_steps=0",
        "optim.schedule=constant",
        f"train.max_steps={NUM_STEPS}",
        f"train.global_batch_size={shape.clips}",
        f"train.max_tokens={shape.max_tokens}",
        f"train.max_frames={shape.max_frames}",
        "train.precision=bf16",
        f"train.gradient_checkpointing={str(row.checkpointing).lower()}",
        f"eval.max_clips={VAL_CLIPS}",
    ]


def _run_folder(row: Row, work: Path) -> Path:
    return work / "runs" / row.name.replace(" ", "-")


def run_row(row: Row, work: Path, tiny: bool) -> Result:
    """Train one row in its own processes and return its result; the log stays below `work`."""
    folder = _run_folder(row, work)
    shutil.rmtree(folder, ignore_errors=True)
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    limit_s = TINY_ROW_LIMIT_S if tiny else ROW_LIMIT_S
    started_s = time.perf_counter()
    with log.open("w") as output:
        try:
            run_to_end(command(row, work, tiny), limit_s, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired:
            return Result(row, time.perf_counter() - started_s, [], f"took over {limit_s} s, see {log}")
    result = Result(row, time.perf_counter() - started_s, _read_steps(folder))
    result.fault = _fault(result, folder, log)
    # A full model is 9 GB, and nothing here reads it.
    shutil.rmtree(folder / "final", ignore_errors=True)
    return result


def _read_steps(folder: Path) -> list[dict]:
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["split"] == "train"]


def _fault(result: Result, folder: Path, log: Path) -> str | None:
    status = folder / "status.json"
    if not status.exists():
        return f"ended without a status.json, see {log}"
    values = json.loads(status.read_text())
    if values["code"] != 0:
        return f"{values['reason']} (see {log})"
    if len(result.losses) != NUM_STEPS:
        return f"{len(result.losses)} steps of {NUM_STEPS}"
    if not all(map(math.isfinite, result.losses)):
        return "a loss is not finite"
    if result.losses[-1] >= result.losses[0]:
        return "the loss does not fall on the same clips"
    return None if (folder / "final").is_dir() else "no final model"


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


def render(device: str, results: Sequence[Result], checks: Sequence[Check], faults: Sequence[str]) -> str:
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
    return 0 if make_table(rows, options) else 1


def make_table(rows: Sequence[Row], options: argparse.Namespace) -> bool:
    """Run rows and comparisons, print and write the table; return whether all are good."""
    started_s = time.perf_counter()
    work, device = options.work.absolute(), "cpu" if options.tiny else "cuda"
    names = ["tiny"] if options.tiny else list(dict.fromkeys(row.model for row in rows))
    make_inputs(work, names, device)
    results = []
    for row in rows:
        results.append(run_row(row, work, options.tiny))
        print(_line(results[-1]), flush=True)
    checks = [check for name in names for check in check_model(name, work / name / "model", device)]
    faults = find_disagreements(results)
    text = render(device_name(options.tiny), results, checks, faults)
    path = options.table or work / "table.md"
    path.write_text(text)
    print(f"\n{text}\n{time.perf_counter() - started_s:.0f} s in all, written to {path}")
    return not faults and all(result.fault is None for result in results) and all(check.is_good for check in checks)


if __name__ == "__main__":
    sys.exit(main())
