"""Where a clip's frames lie: `frames_file` is often wrong in the public data, and must never lead out of the root."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dst_dist.data.frames import SUFFIX
from dst_dist.errors import DataError

WITHOUT_DATA = "frames_file entries corrected: leading data/ left out"
BELOW_DATASET = "frames_file entries corrected: taken as below the dataset's folder"
BY_NAME = "frames_file entries corrected: found by the file's name"
WITHOUT_PREFIX = "frames_file entries corrected: found without the prefix up to the first _"
NOT_FOUND = "frames_file entries without such a file, nor one of its name"


class FoundFrames(NamedTuple):
    """`path` is real and below the root. `correction` is how the report counts it, None for a path as written.

    Where it is NOT_FOUND the file does not exist.
    """

    path: Path
    correction: str | None


class FramesFinder:
    """Resolves `frames_file` entries below one data root; every entry is looked up once."""

    def __init__(self, root: Path):
        self.root = Path(os.path.realpath(root))
        self._known: dict[tuple[str, str], FoundFrames] = {}
        self._files_by_name: dict[str, list[Path]] | None = None

    def find(self, frames_file: str, dataset: str) -> FoundFrames:
        """As written below the root; else by file name; else without the name's prefix up to the first `_`.

        Raises:
            DataError: if the entry leads out of the root, or several files could be meant.
        """
        key = frames_file, dataset
        if key not in self._known:
            self._known[key] = self._find(check_relative(frames_file), dataset)
        return self._known[key]

    def _find(self, written: PurePosixPath, dataset: str) -> FoundFrames:
        for place, correction in self._places(written, dataset):
            if os.path.isfile(place):
                return FoundFrames(real_path(self.root, place), correction)
        for name, correction in ((written.name, BY_NAME), (_without_prefix(written.name), WITHOUT_PREFIX)):
            found = self._by_name(name, dataset)
            if found is not None:
                return FoundFrames(found, correction)
        return FoundFrames(real_path(self.root, self.root / written), NOT_FOUND)

    def _places(self, written: PurePosixPath, dataset: str) -> Iterator[tuple[Path, str | None]]:
        yield self.root / written, None
        if written.parts[0] == "data":
            yield self.root.joinpath(*written.parts[1:]), WITHOUT_DATA
        if PurePosixPath(dataset).name == dataset:
            yield self.root / dataset / written, BELOW_DATASET

    def _by_name(self, name: str, dataset: str) -> Path | None:
        if self._files_by_name is None:
            self._files_by_name = _arrow_files(self.root)
        found = self._files_by_name.get(name, [])
        near = [path for path in found if path.relative_to(self.root).parts[0] == dataset]
        if len(near or found) > 1:
            places = ", ".join(str(path.relative_to(self.root)) for path in (near or found)[:3])
            raise DataError(f"does not exist, and several files have this name: {places}; write which one is meant")
        return real_path(self.root, (near or found)[0]) if found else None


def check_relative(written: str) -> PurePosixPath:
    """A path from a data file or recipe, which must lie below the root.

    Raises:
        DataError: if it is absolute, has `..` in it, or is no path at all.
    """
    path = PurePosixPath(written)
    if path.is_absolute() or ".." in path.parts:
        raise DataError("leads out of the data root; write a path below it, without ..")
    if not path.parts or any(ord(character) < 32 for character in written):
        raise DataError("is not a path")
    return path


def real_path(root: Path, path: Path) -> Path:
    """`path` with links followed; `root` must be real itself.

    Raises:
        DataError: if a link leads out of the root.
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise DataError(f"is a link that leads out of the data root, to {real}; put the file below the root")
    return real


def _arrow_files(root: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(SUFFIX):
                files.setdefault(name, []).append(Path(folder, name))
    return files


def _without_prefix(name: str) -> str:
    return name.split("_", 1)[-1]
