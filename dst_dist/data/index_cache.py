"""Keeps the clips of a split that were read, checked and cut, so that later starts map them into memory.

An entry is one file, named by a digest of everything that decides what is in it: the data files by size and time, the
recipe, the tokenizer, the code. The entry lists what was found on the way, the frames files; it counts only while a
search for them still finds the same files, with the same sizes and times.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dst_dist import config
from dst_dist.data.clips import ClipIndex
from dst_dist.data.dataset import Clips
from dst_dist.data.frames_check import FrameFaults
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.inputs import Stat, code_digest, stat_of
from dst_dist.data.mapped_file import read_mapped, write_mapped
from dst_dist.data.reading import list_files
from dst_dist.data.samples import SampleMaker
from dst_dist.errors import DataError
from dst_dist.logs import logger

FOLDER = ".dst_dist"
"""Name of the cache's folder below the data root."""
SUFFIX = ".clips"
OTHER_DATA_KEYS = {"root", "train", "val", "test", "num_workers", "index_cache", "feature_cache"}
OTHER_LABEL_KEYS = {"neg_frame_sampling_rate", "balance"}
"""Recipe keys that decide nothing about reading and cutting, or that the key holds in another form."""
UNUSED_S = 30 * 24 * 3600
"""Age after which an entry that no start has used is removed. A run that has mapped one may be as old."""


class IndexCache:
    """The entries of one data root.

    Args:
        data: `index_cache` is the folder; `<root>/.dst_dist` if null.
    """

    def __init__(self, data: config.Data):
        self.root = Path(os.path.realpath(data.root))
        self.folder = Path(data.index_cache) if data.index_cache is not None else self.root / FOLDER
        self._started_ns = time.time_ns()

    @property
    def certificates_file(self) -> Path:
        """File of the rows that were looked at; several roots may share the folder."""
        return self.folder / f"frames-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]}.json"

    def key(self, data: config.Data, split: str, maker: SampleMaker, tokenizer: str) -> dict[str, Any]:
        """Return everything that decides what is in an entry, but the frames files.

        Args:
            tokenizer: its digest.

        Raises:
            DataError: if a file of the split cannot be read.
        """
        files = list_files(self.root, getattr(data, split), split)
        return {
            "code": code_digest(),
            "root": str(self.root),
            "files": [[file, weight, *stat_of(self.root / file)] for file, weight in files.items()],
            "data": maker.data.model_dump(mode="json", exclude=OTHER_DATA_KEYS),
            "labels": maker.labels.model_dump(mode="json", exclude=OTHER_LABEL_KEYS),
            "limits": maker.limits,
            "tokens_per_frame": maker.writer.tokens_per_frame,
            "tokenizer": tokenizer,
        }

    def find(self, key: dict[str, Any], finder: FramesFinder) -> tuple[str, Clips, FrameFaults] | None:
        """Return the name, clips and frame faults of an entry, or None if there is none that can be trusted.

        The whole file is compared with its digest, and every frames file looked up.
        """
        name = _name(key)
        found = self._read(name, verify=True)
        if found is None or not self._still_holds(found[0], finder):
            return None
        with suppress(OSError):
            os.utime(self.folder / name)
        return name, *_unpack(*found)

    def open(self, name: str) -> Clips | None:
        """Return the clips of an entry that `find` or `keep` of another process has named; None if it is not here."""
        found = self._read(name, verify=False)
        return None if found is None else _unpack(*found)[0]

    def keep(self, key: dict[str, Any], clips: Clips, faults: FrameFaults, finder: FramesFinder) -> str | None:
        """Write an entry of cut clips and return its name; None if some file was written just now and may be changing.

        Raises:
            OSError: if it cannot be written.
        """
        stats = [Stat(*stat) for _, _, *stat in key["files"]] + list(faults.files.values())
        if odd := sum(stat.is_odd(self._started_ns) for stat in stats):
            logger.warning(
                "%d of %d data and frames files have a time of change in the future, or none: a change could not be "
                "seen, so every start reads and checks the data anew; touch them to keep what was read",
                odd,
                len(stats),
            )
        if not all(stat.is_settled(self._started_ns) for stat in stats):
            return None
        name, (header, arrays) = _name(key), _pack(clips, faults)
        found = [[*asked, str(path), correction] for asked, (path, correction) in finder.answers.items()]
        write_mapped(self.folder / name, {"key": key, "found": found, **header}, arrays)
        self._remove_unused((self.folder / name).stat().st_mtime)
        return name

    def _read(self, name: str, verify: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        found = read_mapped(self.folder / name, verify)
        return found if found is not None and _name(found[0].get("key")) == name else None

    def _still_holds(self, header: dict[str, Any], finder: FramesFinder) -> bool:
        """Return whether the frames files are found where they were, and are as they were."""
        try:
            same_places = all(
                finder.find(*asked) == (Path(path), correction) for *asked, path, correction in header["found"]
            )
        except DataError:
            return False
        return same_places and all(stat_of(self.root / video) == tuple(stat) for video, stat in header["files"].items())

    def _remove_unused(self, now_s: float) -> None:
        """Remove the entries that no start has used for UNUSED_S, and what killed processes left unfinished.

        Args:
            now_s: by the clock of the file system, which may be another machine's.
        """
        for path in self.folder.glob(f"*{SUFFIX}*"):
            with suppress(OSError):
                if path.stat().st_mtime < now_s - UNUSED_S:
                    path.unlink()


def _name(key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32] + SUFFIX


def _pack(clips: Clips, faults: FrameFaults) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what is kept of clips, as JSON and arrays."""
    header = {
        "fingerprint": clips.index.fingerprint(),
        "notes": clips.notes,
        "has_placeholders": bool(clips.missing),
        "files": faults.files,
        "faults": list(faults.clips.items()),
        "missing": list(faults.missing.items()),
    }
    return header, {**clips.index.arrays, "weights": np.array(clips.weights, np.int64), "samples": clips.samples}


def _unpack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Clips, FrameFaults]:
    """Return what `_pack` was given."""
    missing = {position: tuple(frames) for position, frames in header["missing"]}
    files = {video: Stat(*stat) for video, stat in header["files"].items()}
    faults = FrameFaults(dict(header["faults"]), missing, files)
    weights, samples = arrays.pop("weights"), arrays.pop("samples")
    index = ClipIndex(arrays, header["fingerprint"])
    replaced = missing if header["has_placeholders"] else {}
    return Clips(index, weights.tolist(), header["notes"], replaced, files, samples), faults
