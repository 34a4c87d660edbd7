"""From the names in a recipe to an index of clips: the files of a split, read in whichever format they are."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.data.formats.proassist import read_proassist
from dst_dist.data.formats.prospect import read_prospect
from dst_dist.data.formats.schema import clip_label, shown
from dst_dist.data.frames_finder import FramesFinder, check_relative, real_path
from dst_dist.data.reading_log import ClipLog, FileFaults, Report
from dst_dist.errors import DataError


def read_clips(
    root: Path, names: Sequence[str | dict[str, int]], split: str, strict: bool
) -> tuple[ClipIndex, list[int], Report]:
    """Read every file that a recipe names for one split; no frame is looked at.

    Args:
        root: the data root; nothing outside it is read.
        names: datasets (`<root>/<name>/<split>_training.json`) or files below the root (`.json`, `.jsonl`),
            each alone or as `{name: weight}`.
        split: `train`, `val` or `test`.
        strict: a transition that the step's status does not allow is a fault.

    Returns:
        The clips in the order of the files, the weight of each, and what was counted on the way.

    Raises:
        DataError: with the faults of all files.
    """
    if not root.is_dir():
        raise DataError(f"data.root {root}: no such folder")
    reader = _Reader(Path(os.path.realpath(root)), strict)
    files = reader.list_files(names, split)
    index = ClipIndex.from_clips(reader.clips(files))
    if reader.faults:
        raise DataError(reader.faults)
    return index, reader.weights, reader.report


def count_shared_videos(splits: dict[str, ClipIndex], report: Report) -> None:
    """Count the videos that stand in two splits: what was trained on cannot be what is measured on."""
    seen: dict[str, str] = {}
    for split, index in splits.items():
        for video in dict.fromkeys(clip.video for clip in index):
            if video in seen:
                report.count("videos in two splits", f"{video} in {seen[video]} and {split}")
            seen.setdefault(video, split)


@dataclass
class _Reader:
    root: Path
    strict: bool
    report: Report = field(default_factory=Report)
    faults: list[str] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.finder = FramesFinder(self.root)
        self.num_uses: Counter[str] = Counter()

    def list_files(self, names: Sequence[str | dict[str, int]], split: str) -> list[tuple[str, int]]:
        """(file below the root, weight) of every name that can be read."""
        files: dict[str, int] = {}
        for entry in names:
            for name, weight in (entry if isinstance(entry, dict) else {entry: 1}).items():
                file = name if name.endswith((".json", ".jsonl")) else f"{name}/{split}_training.json"
                fault = self._fault_of(file, weight)
                if file in files:
                    fault = "named twice; write {name: 2} for a weight"
                if fault:
                    self.faults.append(f"data.{split}: {name}: {fault}")
                else:
                    files[file] = weight
        if not files and not self.faults:
            self.faults.append(f"data.{split} names nothing; name a dataset below {self.root}, or a file")
        return list(files.items())

    def _fault_of(self, file: str, weight: Any) -> str | None:
        if type(weight) is not int or weight < 1:
            return f"weight {shown(weight)} must be a whole number, 1 or more; leave the name out for 0"
        try:
            path = self.root / check_relative(file)
            if not os.path.isfile(real_path(self.root, path)):
                return f"no such file: {path}{_what_is_there(path)}"
        except DataError as error:
            return f"{file} {error}"
        return None

    def clips(self, files: Iterable[tuple[str, int]]) -> Iterator[Clip]:
        """All good clips; faults are added to `self.faults`, weights and counts kept beside."""
        for file, weight in files:
            faults = FileFaults(file)
            given_ids: set[str] = set()
            for number, raw in enumerate(_read_file(self.root / file, faults), start=1):
                log = ClipLog(clip_label(raw, number), faults, self.report)
                clip = self._read_clip(raw, log, given_ids)
                if clip is not None:
                    self.weights.append(weight)
                    yield self._with_own_id(clip, log)
            self.faults += faults.lines()

    def _read_clip(self, raw: Any, log: ClipLog, given_ids: set[str]) -> Clip | None:
        given = raw.get("id") if isinstance(raw, dict) else None
        if isinstance(given, str):
            if given in given_ids:
                log.fault("this id stands twice in the file; give every clip its own")
            given_ids.add(given)
        if isinstance(raw, dict) and "dst" in raw:
            return read_prospect(raw, log, self.finder, self.strict)
        if isinstance(raw, dict) and _has_frames_turns(raw.get("conversation")):
            return read_proassist(raw, log, self.finder)
        log.fault(
            "is of neither format: a clip is an object with a `conversation` and either its steps under `dst` "
            f"or turns of the role frames, found {shown(raw)}"
        )
        return None

    def _with_own_id(self, clip: Clip, log: ClipLog) -> Clip:
        """Public data repeats ids (several dialogs of one video); reports and evaluation need them apart."""
        self.num_uses[clip.id] += 1
        if self.num_uses[clip.id] == 1:
            return clip
        log.count("clips whose id was taken, numbered #2 and on")
        return replace(clip, id=f"{clip.id}#{self.num_uses[clip.id]}")


def _what_is_there(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}"
    found = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".json", ".jsonl"))
    return f"; its folder has {', '.join(found[:5])}" if found else "; its folder has no .json or .jsonl"


def _has_frames_turns(conversation: Any) -> bool:
    return isinstance(conversation, list) and any(
        isinstance(turn, dict) and turn.get("role") == "frames" for turn in conversation
    )


def _read_file(path: Path, faults: FileFaults) -> Iterator[Any]:
    """The clips of a JSON list, a single JSON object, or a file with one object a line."""
    num_faults = faults.total
    empty = True
    try:
        for raw in _parse(path, faults):
            empty = False
            yield raw
    except UnicodeDecodeError as error:
        faults.add(f"not UTF-8 text ({error.reason} at byte {error.start}); is it a data file?")
    except OSError as error:
        faults.add(f"cannot be read: {error.strerror}")
    if empty and faults.total == num_faults:
        faults.add("holds no clip; leave it out, or write it again")


def _parse(path: Path, faults: FileFaults) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        first = next((line.strip() for line in file if line.strip()), "")
        file.seek(0)
        if first.startswith("{") and first.endswith("}"):
            for number, line in enumerate(file, start=1):
                yield from _loads(line, faults, f"line {number} is ") if line.strip() else []
        elif first:
            for content in _loads(file.read(), faults, "is "):
                yield from content if isinstance(content, list) else [content]


def _loads(text: str, faults: FileFaults, place: str) -> list[Any]:
    """The one value that `text` holds, or nothing after a fault was added."""
    try:
        return [json.loads(text)]
    except ValueError as error:
        faults.add(f"{place}not valid JSON: {error}; is the file complete?")
    except RecursionError:
        faults.add(f"{place}not valid JSON: nested too deeply")
    return []
