"""Reads the files that a recipe names for a split, in whichever format they are, into an index of clips."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from dst_dist.data.below_root import as_spelled, check_relative, real_path
from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.data.formats.proassist import read_proassist
from dst_dist.data.formats.prospect import read_prospect
from dst_dist.data.formats.schema import clip_label, shown
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.json_list import stream_list
from dst_dist.data.reading_log import ClipLog, FileFaults, Report
from dst_dist.errors import DataError


def read_clips(
    root: Path, names: Sequence[str | dict[str, int]], split: str, strict: bool, finder: FramesFinder | None = None
) -> tuple[ClipIndex, list[int], Report]:
    """Read every file that a recipe names for one split, without looking at frames.

    Args:
        root: the data root; nothing outside it is read.
        names: datasets (`<root>/<name>/<split>_training.json`) or files below the root (`.json`, `.jsonl`),
            each alone or as `{name: weight}`.
        split: `train`, `val` or `test`.
        strict: whether a clip that contradicts itself is at fault (recipe `data.strict`).
        finder: of the same root; it remembers where frames files were found.

    Returns:
        The clips in the order of the files, the weight of each, and what was counted on the way.

    Raises:
        DataError: with the faults of all files.
    """
    reader = _open(root, strict, finder)
    files = reader.list_files(names, split)
    index = ClipIndex.from_clips(reader.clips(files))
    if reader.faults:
        raise DataError(reader.faults)
    return index, reader.weights, reader.report


def list_files(root: Path, names: Sequence[str | dict[str, int]], split: str) -> dict[str, int]:
    """Return the weight of every file of a split by its path below the root. Raises DataError as `read_clips`."""
    reader = _open(root)
    files = reader.list_files(names, split)
    if reader.faults:
        raise DataError(reader.faults)
    return files


def shared_videos(splits: dict[str, ClipIndex]) -> list[str]:
    """Return a note on the videos in two splits, if any: a model must not be measured on what it was trained on."""
    seen, report = {}, Report()
    for split, index in splits.items():
        for video in index.videos():
            if video in seen:
                report.count("videos in two splits", f"{video} in {seen[video]} and {split}")
            seen.setdefault(video, split)
    return report.lines()


def _open(root: Path, strict: bool = False, finder: FramesFinder | None = None) -> "_Reader":
    if not root.is_dir():
        raise DataError(f"data.root {root}: no such folder")
    return _Reader(finder or FramesFinder(root), strict)


class _Reader:
    """Reads the files of one split, and collects the faults, weights and counts of all of them."""

    def __init__(self, finder: FramesFinder, strict: bool):
        self.root, self.strict = finder.root, strict
        self.finder, self.report = finder, Report()
        self.faults: list[str] = []
        self.weights: list[int] = []
        self.num_uses: Counter[str] = Counter()

    def list_files(self, names: Sequence[str | dict[str, int]], split: str) -> dict[str, int]:
        """Return the weight of every file that can be read, by its path below the root."""
        files: dict[str, int] = {}
        for entry in names:
            for name, weight in (entry if isinstance(entry, dict) else {entry: 1}).items():
                file = name if name.endswith((".json", ".jsonl")) else f"{name}/{split}_training.json"
                try:
                    file = self._find(file, weight)
                    if file in files:
                        raise DataError("named twice; write {name: 2} for a weight")
                    files[file] = weight
                except DataError as error:
                    self.faults.append(f"data.{split}: {name}: {error}")
        if not files and not self.faults:
            self.faults.append(f"data.{split} names nothing; name a dataset below {self.root}, or a file")
        return files

    def _find(self, file: str, weight: Any) -> str:
        """Return the path of a file below the root, as the disk spells it. Raises DataError if it cannot be read."""
        if type(weight) is not int or weight < 1:
            raise DataError(f"weight {shown(weight)} must be a whole number, 1 or more; leave the name out for 0")
        try:
            path = as_spelled(self.root, check_relative(file))
            is_file = os.path.isfile(real_path(self.root, path))
        except DataError as error:
            raise DataError(f"{file} {error}") from error
        if not is_file:
            found = sorted(other.name for other in path.parent.glob("[!.]*.json*"))[:5]
            raise DataError(f"no such file: {path}; its folder has {', '.join(found) or 'no .json or .jsonl'}")
        if path != self.root / file:
            self.report.count("data files that the disk spells in another way", file)
        return path.relative_to(self.root).as_posix()

    def clips(self, files: dict[str, int]) -> Iterator[Clip]:
        """Yield every clip without faults; its weight is added to `weights`, its file's faults to `faults`."""
        for file, weight in files.items():
            faults = FileFaults(file)
            given_ids: set[str] = set()
            number = 0
            for number, raw in enumerate(_read_file(self.root / file, faults), start=1):
                log = ClipLog(clip_label(raw, number), faults, self.report, self.strict)
                clip = self._read_clip(raw, log, given_ids)
                if clip is None:
                    continue
                self.weights.append(weight)
                self.num_uses[clip.id] += 1
                if self.num_uses[clip.id] > 1:
                    # Public data repeats ids (several dialogs of one video); results need them apart.
                    log.count("clips whose id was taken, numbered #2 and on")
                    clip = replace(clip, id=f"{clip.id}#{self.num_uses[clip.id]}")
                yield clip
            if not number and not faults.texts:
                faults.add("holds no clip; leave it out, or write it again")
            self.faults += faults.lines()

    def _read_clip(self, raw: Any, log: ClipLog, given_ids: set[str]) -> Clip | None:
        if isinstance(raw, dict):
            if isinstance(raw.get("id"), str):
                if raw["id"] in given_ids:
                    log.fault("this id is used twice in the file; give every clip its own")
                given_ids.add(raw["id"])
            if "dst" in raw:
                return read_prospect(raw, log, self.finder)
            turns = raw.get("conversation")
            roles = [turn.get("role") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
            if "frames" in roles:
                return read_proassist(raw, log, self.finder)
        log.fault(
            "is of neither format: a clip is an object with a `conversation` and either its steps under `dst` "
            f"or turns of the role frames, found {shown(raw)}"
        )
        return None


def _read_file(path: Path, faults: FileFaults) -> Iterator[Any]:
    """Yield the clips of a JSON list, a single JSON object, or a file with one object a line."""
    try:
        yield from _parse(path, faults)
    except UnicodeDecodeError as error:
        faults.add(f"not UTF-8 text ({error.reason} at byte {error.start}); is it a data file?")
    except OSError as error:
        faults.add(f"cannot be read: {error.strerror}")


def _parse(path: Path, faults: FileFaults) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        while (first := file.read(1)).isspace():
            pass
        file.seek(0)
        if first == "[":
            yield from _parse_list(file, faults)
        elif first == "{" and next(line.strip() for line in file if line.strip()).endswith("}"):
            file.seek(0)
            for number, line in enumerate(file, start=1):
                yield from _loads(line, faults, f"line {number} is ") if line.strip() else []
        elif first:
            file.seek(0)
            yield from _loads(file.read(), faults, "is ")


def _parse_list(file: TextIO, faults: FileFaults) -> Iterator[Any]:
    try:
        yield from stream_list(file)
    except (ValueError, RecursionError) as error:
        # Read whole, the message names the place in the file.
        file.seek(0)
        if _loads(file.read(), faults, "is "):
            faults.add(f"is not valid JSON: {error}; is the file complete?")


def _loads(text: str, faults: FileFaults, place: str) -> list[Any]:
    """Return a list of the one value that `text` holds, or an empty one after a fault was added."""
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError) as error:
        faults.add(f"{place}not valid JSON: {error}; is the file complete?")
        return []
