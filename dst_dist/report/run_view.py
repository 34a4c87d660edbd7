"""What a run folder says of itself: recipe, steps, metrics over steps, evaluations."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from dst_dist.data.state import STATUSES
from dst_dist.errors import ConfigError
from dst_dist.heads import HEADS, TERM_NAMES
from dst_dist.metrics import KINDS, METRICS, STREAMING, TEACHER_FORCED, table_keys
from dst_dist.report.thinning import rounded, thin
from dst_dist.run_folder import RunFolder

MOST_POINTS = 1000
"""Of each line over steps."""
SPLITS = ("test", "val", "train")


def read_run(run_folder: Path) -> dict[str, Any]:
    """Everything but the clips, ready for JSON.

    Raises:
        ConfigError: if there is no readable config.yaml.
    """
    folder = RunFolder(run_folder)
    recipe = _read_recipe(folder)
    training, notes = _read_training(folder.metrics_file)
    evaluations, more_notes = _read_evaluations(folder)
    status, status_notes = _read_object(folder.status_file)
    if "step" not in status:
        status["step"] = training["last_step"]
    tuning, data = _section(recipe, "finetune"), _section(recipe, "data")
    return {
        "name": run_folder.resolve().name,
        "model": str(_section(recipe, "model").get("name_or_path", "unknown")),
        "mode": str(tuning.get("mode", "")),
        "data": {
            split: [_dataset_name(entry) for entry in data.get(split) or []] for split in ("train", "val", "test")
        },
        "status": status,
        "training": training,
        "evaluations": evaluations,
        **_tables(),
        "notes": notes + more_notes + status_notes,
    }


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a JSON-lines file, and how many lines could not be read."""
    rows, num_bad = [], 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = _parse(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                num_bad += bool(line.strip())
    return rows, num_bad


def _tables() -> dict[str, Any]:
    """Return what the page reads of the package's tables."""
    return {
        "metrics": {key: asdict(metric) for key, metric in METRICS.items()},
        "kinds": KINDS,
        "table_keys": {kind: table_keys(kind) for kind in KINDS},
        "heads": {head.name: head.label for head in HEADS},
        "terms": ["loss", *(f"loss/{term}" for term in TERM_NAMES)],
        "statuses": STATUSES,
    }


def _read_recipe(folder: RunFolder) -> dict[str, Any]:
    path = folder.config_file
    if not path.is_file():
        raise ConfigError(
            f"{folder.path}: not a run folder, there is no config.yaml; name the output_dir of a training"
        )
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; copy it again from the training") from error
    if not isinstance(recipe, dict):
        raise ConfigError(f"{path}: not a recipe, it should hold the sections model, data, train, ...")
    return recipe


def _section(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    section = recipe.get(name)
    return section if isinstance(section, dict) else {}


def _dataset_name(entry: Any) -> str:
    """`assembly101`, or `assembly101 x2` where it is drawn twice an epoch."""
    return ", ".join(f"{name} x{weight}" for name, weight in entry.items()) if isinstance(entry, dict) else str(entry)


def _read_object(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A JSON object, empty where there is none, and what to tell of it."""
    if not path.is_file():
        return {}, []
    try:
        found = _parse(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    return (found, []) if isinstance(found, dict) else ({}, [f"{path.name} could not be read."])


def _parse(text: str) -> Any:
    """JSON; nan and infinity, for which browsers know no word, become None."""
    return json.loads(text, parse_constant=lambda name: None)


def _read_training(path: Path) -> tuple[dict[str, Any], list[str]]:
    """By metric and split, points [step, value]. A step that stands twice, after a resume, counts as it stood last."""
    rows, num_bad = read_json_lines(path) if path.is_file() else ([], 0)
    latest = {(row.get("split"), row["step"]): row for row in rows if isinstance(row.get("step"), int)}
    series: dict[str, dict[str, list]] = {}
    for (split, step), row in sorted(latest.items(), key=lambda entry: entry[0][1]):
        for key, value in _numbers(row):
            series.setdefault(key, {}).setdefault(str(split), []).append((step, rounded(value)))
    longest = max((len(points) for of_split in series.values() for points in of_split.values()), default=0)
    training = {
        "series": {
            key: {split: thin(points, MOST_POINTS) for split, points in of_split.items()}
            for key, of_split in series.items()
        },
        "last_step": max((step for _, step in latest), default=None),
        "thinned_from": longest if longest > MOST_POINTS else None,
        "most_points": MOST_POINTS,
    }
    return training, [f"{num_bad} lines of metrics.jsonl could not be read."] if num_bad else []


def _numbers(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What of a line is drawn: no counts, and nothing that is not finite."""
    for key, value in row.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if is_number and key not in ("step", "epoch") and not key.startswith("num_"):
            yield key, value


def _read_evaluations(folder: RunFolder) -> tuple[list[dict[str, Any]], list[str]]:
    found, notes = [], []
    for kind in (STREAMING, TEACHER_FORCED):
        for split in SPLITS:
            result, told = _read_object(folder.result_file(split, kind))
            notes += told
            if result:
                found.append({"split": split, "kind": kind, "result": result})
    return found, notes
