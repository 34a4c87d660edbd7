"""One training on the device: killed, continued, compared with an undisturbed one, evaluated and streamed."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.launching import REPOSITORY, Launched, launch

ENGINE, MODE = "fsdp", "lora"
TOLERANCE = 0.01
"""Share by which a step's loss may differ from the undisturbed run: kernels on a GPU add in varying order."""
LIMIT_S = 600
KILLED_AFTER = 3
IN_FOREGROUND = ("checkpoint.background=false",)
MEASURED_ON = ("data.val=[synthetic]", "eval.max_clips=1")


class Stage(NamedTuple):
    """One thing that was done with the run."""

    name: str
    result: str
    is_good: bool


def stages(words: Sequence[str], folder: Path, tiny: bool) -> Iterator[Stage]:
    """Yield what became of each stage; those after a training that failed are left out."""
    shutil.rmtree(folder, ignore_errors=True)
    engine = f"{'cpu_' if tiny else ''}{ENGINE}"
    words = [MODE, *words, "train.gradient_checkpointing=false", "checkpoint.every_steps=1", *IN_FOREGROUND]
    whole = launch(engine, words, folder / "whole", 1, timeout_s=LIMIT_S)
    yield Stage("trained", f"exit code {whole.returncode}", whole.returncode == 0)
    if whole.returncode != 0:
        return
    fault = {"FAULT": f"kill:after link last:0:{KILLED_AFTER}"}
    killed = launch(engine, words, folder / "cut", 1, ("tests.train.killing",), LIMIT_S, fault)
    done = len(killed.metrics())
    yield Stage("killed after a save", f"{done} steps", done == KILLED_AFTER)
    continued = launch(engine, words, folder / "cut", 1, timeout_s=LIMIT_S)
    yield _compared(continued, whole)
    if continued.returncode == 0:
        yield _measured(folder / "cut", "evaluate")
        yield _measured(folder / "cut", "evaluate", "--streaming")


def _compared(continued: Launched, whole: Launched) -> Stage:
    losses = [[line["loss"] for line in run.metrics()] for run in (continued, whole)]
    steps = [[line["step"] for line in run.metrics()] for run in (continued, whole)]
    pairs = zip(*losses, strict=False)
    furthest = max((abs(one - other) / other for one, other in pairs), default=math.inf)
    is_good = continued.returncode == 0 and steps[0] == steps[1] and furthest <= TOLERANCE
    return Stage("continued", f"losses within {furthest:.1e} of the undisturbed run", is_good)


def _measured(run: Path, *command: str) -> Stage:
    """Run a command of `dst-dist` on the finished run; it is good if it leaves a finite loss or transition F1."""
    words = [sys.executable, "-m", "dst_dist", *command, str(run), "--split", "val", *MEASURED_ON]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S)
    kind = "streaming" if "--streaming" in command else "teacher_forced"
    file = run / "evaluation" / f"val-{kind}.json"
    if ended.returncode != 0 or not file.exists():
        return Stage(kind, f"exit code {ended.returncode}: {ended.stderr.strip()[-300:]}".replace("\n", " "), False)
    key = {"streaming": "transition/f1", "teacher_forced": "loss"}[kind]
    value = json.loads(file.read_text())[key]
    return Stage(kind, f"{key} {value:.3f}", math.isfinite(value))
