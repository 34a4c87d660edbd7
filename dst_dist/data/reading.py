"""Reads the files that a recipe names for a split, in whichever format they are, into an index of clips."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from dst_dist.data.below_root import as_spelled, check_relative, real_path
from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.data.forks import in_workers
from dst_dist.data.formats.proassist import read_proassist
from dst_dist.data.formats.prospect import read_prospect
from dst_dist.data.formats.schema import clip_label, shown
from dst_dist.data.frames_finder import Answers, FramesFinder
from dst_dist.data.json_list import stream_list
from dst_dist.data.reading_log import ClipLog, FileFaults, Report
from dst_dist.errors import DataError

CLIPS_PER_BLOCK = 100
"""Clips that one process reads before the next one's turn."""
SEVERAL_RATES = "frames files whose clips say several frames a second, of which one is right"
MOST_SHARES = 8
"""Every process parses all files, which is a sixth of reading them alone, so that more would help little."""


def read_clips(
    root: Path,
    names: Sequence[str | dict[str, int]],
    split: str,
    strict: bool,
    finder: FramesFinder | None = None,
    num_workers: int = 0,
    faults: list[str] | None = None,
) -> tuple[ClipIndex, list[int], Report]:
    """Read every file that a recipe names for one split, without looking at frames.

    Args:
        root: the data root; nothing outside it is read.
        names: datasets (`<root>/<name>/<split>_training.json`) or files below the root (`.json`, `.jsonl`),
            each alone or as `{name: weight}`.
        split: `train`, `val` or `test`.
        strict: whether a clip that contradicts itself is at fault (recipe `data.strict`).
        finder: of the same root; it remembers where frames files were found.
        num_workers: as in `in_workers`; the result is the same.
        faults: a list that gets the faults of clips, so that the others are returned for further checks.

    Returns:
        The clips in the order of the files, the weight of each, and what was counted on the way.

    Raises:
        DataError: with the faults of all files, if there is no list for them or nothing could be read.
    """
    reader = _open(root, strict, finder)
    files = reader.list_files(names, split)
    num_shares = max(1, min(num_workers, MOST_SHARES))
    read = partial(reader.read_share, files, num_shares)
    sizes = [sum(os.path.getsize(root / file) for file in files) >> 20] * num_shares
    shares: list[_Share] = list(in_workers(read, range(num_shares), sizes, "MiB of data files parsed", num_workers))
    if num_shares > 1 and any(share.faults for share in shares):
        # Faults are named in the order of the files, and one that clips share is named once: by one process.
        return read_clips(root, names, split, strict, finder, faults=faults)
    found_faults = reader.faults + shares[0].faults
    if found_faults and (faults is None or not any(share.blocks for share in shares)):
        raise DataError(found_faults)
    if faults is not None:
        faults += found_faults
    blocks = _in_order(shares, reader.finder)
    for block in blocks:
        reader.report.add(block.report)
    _count_several_rates(blocks, reader.report)
    weights = [weight for block in blocks for weight in block.weights]
    return ClipIndex.joined([block.index for block in blocks]), weights, reader.report


def _in_order(shares: "Sequence[_Share]", finder: FramesFinder) -> "list[_Block]":
    """Return the blocks of all shares in order; the finder learns where frames files were found."""
    found: dict[int, _Block] = {}
    for share in shares:
        found |= share.blocks
        finder.answers |= share.answers
    return [found[number] for number in sorted(found)]


def _count_several_rates(blocks: "Sequence[_Block]", report: Report) -> None:
    """Count the frames files whose clips do not say the same rate."""
    rates: dict[str, set[float]] = {}
    for video, of_block in (pair for block in blocks for pair in block.rates.items()):
        rates.setdefault(video, set()).update(of_block)
    for video, of_video in rates.items():
        if len(of_video) > 1:
            report.count(SEVERAL_RATES, f"{video} ({', '.join(f'{rate:g}' for rate in sorted(of_video))})")


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


class _Raw(NamedTuple):
    """A clip as it is written in a file."""

    content: Any
    label: str
    use: int
    """Number of clips with this label up to it."""
    is_repeated: bool
    """Whether its own id is in its file before it."""
    weight: int
    faults: FileFaults


class _Block(NamedTuple):
    """Up to CLIPS_PER_BLOCK clips that follow each other in the files, and the rates of each video's."""

    index: ClipIndex
    weights: list[int]
    report: Report
    rates: dict[str, set[float]]


class _Share(NamedTuple):
    """The blocks that one process has read, by number; where it found frames files; the faults."""

    blocks: dict[int, _Block]
    answers: Answers
    faults: list[str]


class _Reader:
    """Reads the files of one split."""

    def __init__(self, finder: FramesFinder, strict: bool):
        self.root, self.strict = finder.root, strict
        self.finder, self.report = finder, Report()
        self.faults: list[str] = []

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

    def read_share(self, files: dict[str, int], num_shares: int, share: int) -> _Share:
        """Read one of every `num_shares` blocks of clips. The others are parsed, which says where a clip begins."""
        blocks, faults = {}, []
        numbered = enumerate(self._raw_clips(files, faults))
        for number, members in groupby(numbered, lambda pair: pair[0] // CLIPS_PER_BLOCK):
            if number % num_shares == share:
                blocks[number] = self._read_block(raw for _, raw in members)
        return _Share(blocks, self.finder.answers, faults)

    def _raw_clips(self, files: dict[str, int], faults: list[str]) -> Iterator[_Raw]:
        """Yield every clip as it is written; a file's faults are added behind its last one."""
        num_uses: Counter[str] = Counter()
        for file, weight in files.items():
            own, given_ids, number = FileFaults(file), set(), 0
            for number, content in enumerate(_read_file(self.root / file, own), start=1):
                label = clip_label(content, number)
                num_uses[label] += 1
                has_id = isinstance(content, dict) and isinstance(content.get("id"), str)
                yield _Raw(content, label, num_uses[label], has_id and label in given_ids, weight, own)
                if has_id:
                    given_ids.add(label)
            if not number and not own.texts:
                own.add("holds no clip; leave it out, or write it again")
            faults += own.lines()

    def _read_block(self, members: Iterable[_Raw]) -> _Block:
        report, weights, rates = Report(), [], {}

        def clips() -> Iterator[Clip]:
            for raw in members:
                log = ClipLog(raw.label, raw.faults, report, self.strict)
                clip = self._read_clip(raw, log)
                if clip is None:
                    continue
                weights.append(raw.weight)
                rates.setdefault(clip.video, set()).add(clip.fps)
                if raw.use > 1:
                    # Public data repeats ids (several dialogs of one video); results need them apart.
                    log.count("clips whose id was taken, numbered #2 and on")
                    clip = replace(clip, id=f"{clip.id}#{raw.use}")
                yield clip

        return _Block(ClipIndex.from_clips(clips()), weights, report, rates)

    def _read_clip(self, raw: _Raw, log: ClipLog) -> Clip | None:
        if raw.is_repeated:
            log.fault("this id is used twice in the file; give every clip its own")
        content = raw.content
        if isinstance(content, dict):
            if "dst" in content:
                return read_prospect(content, log, self.finder)
            turns = content.get("conversation")
            roles = [turn.get("role") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
            if "frames" in roles:
                return read_proassist(content, log, self.finder)
        log.fault(
            "is of neither format: a clip is an object with a `conversation` and either its steps under `dst` "
            f"or turns of the role frames, found {shown(content)}"
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
