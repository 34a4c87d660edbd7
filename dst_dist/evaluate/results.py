"""What an evaluation leaves: JSON files below `evaluation/`, and a table for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dst_dist.errors import ConfigError

Result = dict[str, Any]

TABLE_KEYS = (
    "dst_update/average_precision", "dst_update/average_precision_at_frames", "dst_update/f1", "dst_update/false_per_minute",
    "speaking/average_precision", "speaking/average_precision_at_frames", "speaking/f1", "speaking/false_per_minute",
    "update/exact_match", "lm/token_accuracy", "loss",
)  # fmt: skip
STREAMING_TABLE_KEYS = (
    "transition/f1", "transition/precision", "transition/recall",
    "joint_goal_accuracy/frames", "joint_goal_accuracy/updates", "step_status_accuracy",
    "update/json_valid", "update/illegal", "dst_update/f1@2s", "dst_update/false_per_minute",
    "speaking/f1@2s", "speaking/false_per_minute", "reply/f1", "reply/missing", "reply/redundant", "real_time_factor",
)  # fmt: skip


def result_file(run_folder: Path, name: str) -> Path:
    return run_folder / "evaluation" / f"{name}.json"


def read_others(beside: Mapping[str, Path], name: str) -> dict[str, Result]:
    """The metrics of other runs by the names given to them, without what is nested in them.

    Raises:
        ConfigError: naming every run that has no such evaluation.
    """
    missing = [f"{folder}: not evaluated yet, there is no {path}" for folder in beside.values() if not (path := result_file(folder, name)).is_file()]
    if missing:
        raise ConfigError(missing)
    results = {other: json.loads(result_file(folder, name).read_text()) for other, folder in beside.items()}
    return {other: {key: value for key, value in result.items() if isinstance(value, int | float)} for other, result in results.items()}


def write_clips(run_folder: Path, name: str, records: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, `evaluation/<name>.jsonl`."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    _write(result_file(run_folder, name).with_suffix(".jsonl"), lines)


def write_result(run_folder: Path, name: str, result: Result) -> None:
    """Write `evaluation/<name>.json` and show what matters of it."""
    path = result_file(run_folder, name)
    _write(path, [json.dumps(result, indent=2, ensure_ascii=False) + "\n"])
    for line in table(result, STREAMING_TABLE_KEYS if name.endswith("streaming") else TABLE_KEYS):
        print(line)
    print(f"written to {path}")


def _write(path: Path, parts: Iterable[str]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(parts)
    unfinished.replace(path)


def table(result: Result, keys: Sequence[str]) -> list[str]:
    """The model with its 95 % interval, the same on the clock if that was measured, then the baselines."""
    on_the_clock = {"on clock": result["on_the_clock"]} if "on_the_clock" in result else {}
    baselines = on_the_clock | result["baselines"]
    width = max([8, *map(len, baselines)]) + 2
    lines = [f"{'':42}{'model':>8}{'95 % of':>9} {result['num_videos']:<3} videos" + "".join(f"{name:>{width}}" for name in baselines)]
    for key in keys:
        if key not in result:
            continue
        interval = "{:.3f} to {:.3f}".format(*result[f"{key}/ci95"]) if f"{key}/ci95" in result else ""
        cells = (values.get(key) for values in baselines.values())
        lines.append(f"{key:42}{result[key]:>8.3f}{interval:>20}" + "".join(f"{'' if cell is None else f'{cell:.3f}':>{width}}" for cell in cells))
    return lines
