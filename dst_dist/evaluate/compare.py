"""Reads results of other runs to compare with; they must be measured on the same clips and in the same way."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.errors import ConfigError
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.evaluate.results import Result
from dst_dist.heads import HEAD_ROLES
from dst_dist.measure.decisions import Metrics
from dst_dist.metrics import STREAMING, TEACHER_FORCED
from dst_dist.run_folder import REPLACED, RunFolder

MeasuredOn = dict[str, Any]
NamedRuns = Sequence[tuple[str, Path]]
"""Names that a user gives to run folders, in the order given."""

TAKEN_NAMES = ("model", "on clock", "on the clock", "never", "always", "periodic", "rule", "random", "chance")
"""Columns that tables have already: the model, on the clock, and the baselines."""
YARDSTICKS = {
    TEACHER_FORCED: ("data.frames", "labels.positive_frames"),
    STREAMING: ("eval.tolerance_s", "eval.similarity"),
}
"""Recipe keys, by kind of evaluation, that decide what counts as correct; they must be equal."""
OTHER_SETTINGS = {TEACHER_FORCED: ("eval.max_clips",), STREAMING: ("eval.max_clips", "eval.on_full_context")}
"""Other keys that change the numbers. They may differ: they may be what is compared, and fewer clips differ anyway."""


def measured_on(run: FinishedRun, clips: ClipIndex, kind: str) -> MeasuredOn:
    """Return what an evaluation's numbers depend on, settings by recipe key; kept in its result."""
    settings = {key: attrgetter(key)(run.recipe) for key in YARDSTICKS[kind] + OTHER_SETTINGS[kind]}
    thresholds = {f"{head}/threshold": threshold for head, threshold in run.thresholds.items()}
    about = {"weights": run.weights, "clips": fingerprint(clips), "num_clips": len(clips)}
    return {**about, **settings, **thresholds}


def fingerprint(clips: Iterable[Clip]) -> str:
    """Return a hash of the gold turns of all clips, with their frames.

    The order of the clips does not count, nor do the inputs of the model: frames, and the words of the task.
    """
    return hashlib.sha256("\n".join(sorted(map(_gold_line, clips))).encode()).hexdigest()[:16]


def _gold_line(clip: Clip) -> str:
    """Return the turns of a clip as a line: those to predict in full, of the others, such as the user's, the frames."""
    turns = [
        (turn.role, turn.first_frame, turn.frame, turn.text if turn.role in HEAD_ROLES else "") for turn in clip.turns
    ]
    about = (clip.id, clip.dataset, clip.start_frame, clip.end_frame, clip.fps, clip.has_dst)
    return json.dumps([*about, [step.id for step in clip.steps], sorted(clip.initial_state.items()), turns])


def read_others(others: NamedRuns, split: str, kind: str) -> dict[str, Result]:
    """Return the results of other runs by the names given to them.

    Raises:
        ConfigError: with every name that is taken or given twice, and every run without a usable result.
    """
    faults, results = [], {}
    for name, number in Counter(name for name, _ in others).items():
        if name in TAKEN_NAMES:
            faults.append(f"--compare {name}: a column has this name already; choose another")
        if number > 1:
            faults.append(f"--compare {name}: given to {number} runs; give each its own name")
    for name, folder in others:
        run = RunFolder(folder)
        path = run.result_file(split, kind)
        if not path.is_file():
            faults.append(f"{folder}: not evaluated yet, there is no {path}")
            continue
        try:
            results[name] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            results[name] = {}
        basis = results[name].get("measured_on", {})
        if "clips" not in basis:
            faults.append(f"{path}: does not say what it was measured on; evaluate it again")
        elif not run.has_weights_of(basis):
            faults.append(f"{path}: {REPLACED}")
    if faults:
        raise ConfigError(faults)
    return results


def metrics_of_others(others: Mapping[str, Result], ours: MeasuredOn, split: str) -> dict[str, Metrics]:
    """Return the plain numbers in the results of other runs.

    Raises:
        ConfigError: with every difference in what they were measured on.
    """
    faults = [
        f"--compare {name}: {fault}"
        for name, result in others.items()
        for fault in _differences(result["measured_on"], ours, split)
    ]
    if faults:
        raise ConfigError(faults)
    return {
        name: {key: value for key, value in result.items() if isinstance(value, int | float)}
        for name, result in others.items()
    }


def _differences(theirs: MeasuredOn, ours: MeasuredOn, split: str) -> Iterator[str]:
    if theirs["clips"] != ours["clips"]:
        here, there = (f"{one['num_clips']} with {_word(one, 'eval.max_clips')}" for one in (ours, theirs))
        remedy = f"evaluate it again with this run's data.{split} and {_word(ours, 'eval.max_clips')}"
        yield f"measured on other clips ({there}; here {here}); {remedy}"
    for key in (key for keys in YARDSTICKS.values() for key in keys):
        if theirs.get(key) != ours.get(key):
            here = _word(ours, key)
            yield f"measured with {_word(theirs, key)}, here {here}; evaluate it again with {here}"


def _word(settings: MeasuredOn, key: str) -> str:
    """Return `key=value` as on a command line."""
    value = settings.get(key)
    return f"{key}={'null' if value is None else value}"
