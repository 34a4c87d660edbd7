"""Other runs shown beside one: only where they were measured on the same clips and by the same yardstick."""

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
from dst_dist.run_folder import RunFolder

MeasuredOn = dict[str, Any]
NamedRuns = Sequence[tuple[str, Path]]
"""Names that a user gives to run folders, in the order given."""

TAKEN_NAMES = ("model", "on clock", "on the clock", "never", "always", "periodic", "rule", "random", "chance")
"""What tables call their own columns: the model, on the clock, and the baselines."""
YARDSTICKS = {
    "teacher_forced": ("data.frames", "labels.positive_frames"),
    "streaming": ("eval.tolerance_s", "eval.similarity"),
}
"""By kind of evaluation, what of a recipe decides what counts as right: numbers are comparable only where it is the same."""
OTHER_SETTINGS = {"teacher_forced": ("eval.max_clips",), "streaming": ("eval.max_clips", "eval.on_full_context")}
"""What else changes the numbers. It may differ: it may be what is compared, and fewer clips are other clips."""


def measured_on(run: FinishedRun, clips: ClipIndex, kind: str) -> MeasuredOn:
    """What the numbers of an evaluation depend on besides the model, by the recipe's keys; kept with its result."""
    settings = {key: attrgetter(key)(run.recipe) for key in YARDSTICKS[kind] + OTHER_SETTINGS[kind]}
    thresholds = {f"{head}/threshold": threshold for head, threshold in run.thresholds.items()}
    return {"clips": fingerprint(clips), "num_clips": len(clips), **settings, **thresholds}


def fingerprint(clips: Iterable[Clip]) -> str:
    """Of what should be written in each clip, and when; the same in any order, and whatever is shown and told to the
    model: where the frames lie, what is on them, and how the task is worded make no difference."""
    digest = hashlib.sha256("\n".join(sorted(map(_asked, clips))).encode())
    return digest.hexdigest()[:16]


def _asked(clip: Clip) -> str:
    """A line. Of turns that the model is told, such as the user's, their frames alone: it decides there."""
    turns = [
        (turn.role, turn.first_frame, turn.frame, turn.text if turn.role in HEAD_ROLES else "") for turn in clip.turns
    ]
    about = (clip.id, clip.dataset, clip.start_frame, clip.end_frame, clip.fps, clip.has_dst)
    return json.dumps([*about, [step.id for step in clip.steps], sorted(clip.initial_state.items()), turns])


def read_others(others: NamedRuns, split: str, kind: str) -> dict[str, Result]:
    """The results of other runs by the names given to them.

    Raises:
        ConfigError: naming every name that is taken or given twice, and every run that has no such evaluation, or one
            that does not say what it was measured on.
    """
    counts = Counter(name for name, _ in others)
    faults = [
        f"--compare {name}: a column has this name already; choose another" for name in counts if name in TAKEN_NAMES
    ]
    faults += [
        f"--compare {name}: given to {count} runs; give each its own name"
        for name, count in counts.items()
        if count > 1
    ]
    results = {}
    for name, folder in others:
        path = RunFolder(folder).result_file(split, kind)
        results[name] = _read(path) if path.is_file() else None
        if results[name] is None:
            faults.append(f"{folder}: not evaluated yet, there is no {path}")
        elif "clips" not in results[name].get("measured_on", {}):
            faults.append(f"{path}: does not say what it was measured on; evaluate it again")
    if faults:
        raise ConfigError(faults)
    return results


def _read(path: Path) -> Result:
    """Empty if it is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def metrics_of_others(others: Mapping[str, Result], ours: MeasuredOn, split: str) -> dict[str, Metrics]:
    """The metrics in the results of other runs, without what is nested in them.

    Raises:
        ConfigError: naming all in which any of them was measured otherwise than this run.
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
        yield f"measured on other clips ({there}; here {here}); evaluate it again with this run's data.{split} and {_word(ours, 'eval.max_clips')}"
    for key in (key for keys in YARDSTICKS.values() for key in keys):
        if theirs.get(key) != ours.get(key):
            yield f"measured with {_word(theirs, key)}, here {_word(ours, key)}; evaluate it again with {_word(ours, key)}"


def _word(settings: MeasuredOn, key: str) -> str:
    """As in a recipe's words."""
    value = settings.get(key)
    return f"{key}={'null' if value is None else value}"
