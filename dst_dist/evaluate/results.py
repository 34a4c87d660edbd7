"""What an evaluation leaves: JSON files below `evaluation/`, and a table for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dst_dist.files import write_whole
from dst_dist.metrics import table_keys
from dst_dist.run_folder import RunFolder

Result = dict[str, Any]


def write_clips(run_folder: Path, split: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write `clips_file`."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_whole(RunFolder(run_folder).clips_file(split), lines)


def write_result(run_folder: Path, split: str, kind: str, result: Result) -> None:
    """Write `result_file` and show what matters of it."""
    path = RunFolder(run_folder).result_file(split, kind)
    write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    for line in table(result, table_keys(kind)):
        print(line)
    print(f"written to {path}")


def table(result: Result, keys: Sequence[str]) -> list[str]:
    """The model with its 95 % interval, the same on the clock if that was measured, then the baselines."""
    on_the_clock = {"on clock": result["on_the_clock"]} if "on_the_clock" in result else {}
    baselines = on_the_clock | result["baselines"]
    width = max([8, *map(len, baselines)]) + 2
    lines = [
        f"{'':42}{'model':>8}{'95 % of':>9} {result['num_videos']:<3} videos"
        + "".join(f"{name:>{width}}" for name in baselines)
    ]
    for key in keys:
        if key not in result:
            continue
        interval = "{:.3f} to {:.3f}".format(*result[f"{key}/ci95"]) if f"{key}/ci95" in result else ""
        cells = (values.get(key) for values in baselines.values())
        lines.append(
            f"{key:42}{result[key]:>8.3f}{interval:>20}"
            + "".join(f"{'' if cell is None else f'{cell:.3f}':>{width}}" for cell in cells)
        )
    return lines
