"""Writes the files of an evaluation, JSON below `evaluation/`, and its table for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dst_dist.files import write_whole

Result = dict[str, Any]


def write_clips(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the records of streamed clips, one JSON object a line."""
    write_whole(path, (json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_result(path: Path, result: Result, keys: Sequence[str]) -> None:
    """Write a result as JSON and print these keys as a table."""
    write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print("\n".join([*table(result, keys), f"written to {path}"]))


def table(result: Result, keys: Sequence[str]) -> list[str]:
    """Return lines: the model with its 95 % interval, on the clock if that was measured, then the baselines."""
    columns = ({"on clock": result["on_the_clock"]} if "on_the_clock" in result else {}) | result["baselines"]
    width = max([8, *map(len, columns)]) + 2
    names = "".join(f"{name:>{width}}" for name in columns)
    lines = [f"{'':42}{'model':>8}{'95 % of':>9} {result['num_videos']:<3} videos{names}"]
    for key in (key for key in keys if key in result):
        interval = "{:.3f} to {:.3f}".format(*result[f"{key}/ci95"]) if f"{key}/ci95" in result else ""
        cells = (f"{values[key]:.3f}" if key in values else "" for values in columns.values())
        lines.append(f"{key:42}{result[key]:>8.3f}{interval:>20}" + "".join(f"{cell:>{width}}" for cell in cells))
    return lines
