"""Reads a run folder for the page: recipe, status, metrics over steps, evaluations."""

import json
import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dst_dist.data.state import STATUSES
from dst_dist.errors import ConfigError
from dst_dist.heads import HEADS, TERM_NAMES
from dst_dist.metrics import KINDS, METRICS, STREAMING, TEACHER_FORCED, how_measured, table_keys
from dst_dist.report.thinning import rounded, thin
from dst_dist.run_folder import REPLACED, RunFolder

MOST_POINTS = 1000
"""Points of a line over steps."""
SPLITS = ("test", "val", "train")


def read_run(run_folder: Path) -> dict[str, Any]:
    """Return everything on the page but the clips, ready for JSON. Raises ConfigError if there is no config.yaml."""
    folder = RunFolder(run_folder)
    if not folder.config_file.is_file():
        raise ConfigError(f"{run_folder}: not a run folder, there is no config.yaml; name the output_dir of a training")
    recipe = folder.read_config()
    training, notes = _read_training(folder.metrics_file)
    evaluations, left_out = _read_evaluations(folder)
    status = _parse(folder.status_file.read_text(encoding="utf-8")) if folder.status_file.is_file() else {}
    return {
        "name": run_folder.resolve().name,
        "model": recipe["model"]["name_or_path"],
        "mode": recipe["finetune"]["mode"],
        "data": {split: list(map(_dataset_name, recipe["data"][split])) for split in ("train", "val", "test")},
        "status": {"step": training["last_step"], **status},
        "training": training,
        "evaluations": evaluations,
        # The package's tables that the page's scripts read.
        "metrics": {key: asdict(metric) for key, metric in METRICS.items()},
        "kinds": KINDS,
        "table_keys": {kind: table_keys(kind) for kind in KINDS},
        "heads": {head.name: head.label for head in HEADS},
        "terms": ["loss", *(f"loss/{term}" for term in TERM_NAMES)],
        "statuses": STATUSES,
        "notes": notes + left_out,
    }


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the objects of a JSON-lines file, and how many lines could not be read; nothing if there is no file."""
    rows, num_bad = [], 0
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    row = _parse(line)
                except ValueError:
                    row = None
                if isinstance(row, dict):
                    rows.append(row)
                else:
                    num_bad += 1
    return rows, num_bad


def _parse(text: str) -> dict[str, Any]:
    """Return a JSON object. NaN and infinity, which browsers cannot read, become None."""
    return json.loads(text, parse_constant=lambda name: None)


def _dataset_name(entry: str | dict[str, int]) -> str:
    """Return `assembly101`, or `assembly101 x2` for a dataset that is drawn twice an epoch."""
    return entry if isinstance(entry, str) else ", ".join(f"{name} x{weight}" for name, weight in entry.items())


def _read_training(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the points (step, value) of each metric and split, and notes about lines that could not be read.

    After a resume a step may be in the file twice; its last line counts.
    """
    rows, num_bad = read_json_lines(path)
    last_rows = {(row["split"], row["step"]): row for row in rows}
    series: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for (split, step), row in sorted(last_rows.items(), key=lambda entry: entry[0][1]):
        for key, value in row.items():
            if _is_drawn(key, value):
                series[key][split].append((step, rounded(value)))
    longest = max((len(points) for by_split in series.values() for points in by_split.values()), default=0)
    training = {
        "series": {
            key: {split: thin(points, MOST_POINTS) for split, points in by_split.items()}
            for key, by_split in series.items()
        },
        "last_step": max((step for _, step in last_rows), default=None),
        "thinned_from": longest if longest > MOST_POINTS else None,
        "most_points": MOST_POINTS,
    }
    return training, [f"{num_bad} lines of metrics.jsonl could not be read."] if num_bad else []


def _is_drawn(key: str, value: Any) -> bool:
    """Return whether a value of metrics.jsonl is a line over steps: a finite number that is no count."""
    is_number = type(value) in (int, float) and math.isfinite(value)
    return is_number and key not in ("step", "epoch") and not key.startswith("num_")


def _read_evaluations(folder: RunFolder) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the results of the model in `final/`, streamed ones first: as in use; and notes about those left out."""
    files = {(kind, split): folder.result_file(split, kind) for kind in (STREAMING, TEACHER_FORCED) for split in SPLITS}
    evaluations, notes = [], []
    for (kind, split), path in files.items():
        if path.is_file():
            result = _parse(path.read_text(encoding="utf-8"))
            basis = result.get("measured_on", {})
            if folder.has_weights_of(basis):
                about = {"split": split, "kind": kind, "measured": how_measured(basis)}
                evaluations.append({**about, "result": result})
            else:
                notes.append(f"{path.name} is left out: {REPLACED}.")
    return evaluations, notes
