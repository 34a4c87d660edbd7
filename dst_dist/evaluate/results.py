"""What an evaluation leaves: JSON files below `evaluation/`, and a table for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]

TABLE_KEYS = {
    "teacher_forced": (
        "dst_update/average_precision", "dst_update/average_precision_at_frames", "dst_update/f1", "dst_update/false_per_minute",
        "speaking/average_precision", "speaking/average_precision_at_frames", "speaking/f1", "speaking/false_per_minute",
        "update/exact_match", "lm/token_accuracy", "loss",
    ),
    "streaming": (
        "transition/f1", "transition/precision", "transition/recall",
        "joint_goal_accuracy/frames", "joint_goal_accuracy/updates", "step_status_accuracy",
        "update/json_valid", "update/illegal", "dst_update/f1@2s", "dst_update/false_per_minute",
        "speaking/f1@2s", "speaking/false_per_minute", "reply/f1", "reply/missing", "reply/redundant", "real_time_factor",
    ),
}  # fmt: skip
"""Of each kind of evaluation, what people see first."""


def result_file(run_folder: Path, split: str, kind: str) -> Path:
    """`kind` is `teacher_forced` or `streaming`."""
    return run_folder / "evaluation" / f"{split}-{kind}.json"


def clips_file(run_folder: Path, split: str) -> Path:
    """What was streamed, a JSON object a line for each clip."""
    return run_folder / "evaluation" / f"{split}-streaming-clips.jsonl"


def write_clips(run_folder: Path, split: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write `clips_file`."""
    _write(clips_file(run_folder, split), (json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_result(run_folder: Path, split: str, kind: str, result: Result) -> None:
    """Write `result_file` and show what matters of it."""
    path = result_file(run_folder, split, kind)
    _write(path, [json.dumps(result, indent=2, ensure_ascii=False) + "\n"])
    for line in table(result, TABLE_KEYS[kind]):
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
