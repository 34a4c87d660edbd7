"""Finds the frames file of a clip: `frames_file` is often wrong in public data, and must never lead out of the root."""

import os
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath

from dst_dist.data.below_root import as_spelled, check_relative, one_form, real_path
from dst_dist.data.frames import STORAGES
from dst_dist.errors import DataError

WITHOUT_DATA = "frames_file entries corrected: leading data/ left out"
BELOW_DATASET = "frames_file entries corrected: taken as below the dataset's folder"
OTHER_SPELLING = "frames_file entries corrected: the disk spells an accented character in another way"
BY_NAME = "frames_file entries corrected: found by the file's name"
WITHOUT_PREFIX = "frames_file entries corrected: found without the prefix up to the first _"
NOT_FOUND = "frames_file entries without such a file, nor one of its name"


Answers = dict[tuple[str, str], tuple[Path, str | None]]
"""Results of `FramesFinder.find`, by its arguments."""


class FramesFinder:
    """Resolves `frames_file` entries below one data root; every entry is looked up once."""

    def __init__(self, root: Path):
        self.root = Path(os.path.realpath(root))
        self.answers: Answers = {}

    def find(self, frames_file: str, dataset: str) -> tuple[Path, str | None]:
        """Find the file as written below the root; else by its name; else by its name from after the first `_`.

        Returns:
            The real path, which exists unless the second is NOT_FOUND, and the kind of correction that the report
            counts, None for a path as written.

        Raises:
            DataError: if the entry leads out of the root, or several files could be meant.
        """
        key = frames_file, dataset
        if key not in self.answers:
            path, correction = self._find(check_relative(frames_file), dataset)
            self.answers[key] = real_path(self.root, path), correction
        return self.answers[key]

    def _find(self, written: PurePosixPath, dataset: str) -> tuple[Path, str | None]:
        places = {None: self.root / written}
        if written.parts[0] == "data":
            places[WITHOUT_DATA] = self.root.joinpath(*written.parts[1:])
        if PurePosixPath(dataset).name == dataset:
            places[BELOW_DATASET] = self.root / dataset / written
        for correction, place in places.items():
            if os.path.isfile(place):
                return place, correction
        for place in places.values():
            spelled = as_spelled(self.root, place.relative_to(self.root))
            if os.path.isfile(spelled):
                return spelled, OTHER_SPELLING
        whole_name = one_form(written.name)
        for name, correction in ((whole_name, BY_NAME), (whole_name.split("_", 1)[-1], WITHOUT_PREFIX)):
            if name in self._files_by_name:
                return self._nearest(self._files_by_name[name], dataset), correction
        return self.root / written, NOT_FOUND

    def _nearest(self, found: list[Path], dataset: str) -> Path:
        """Return the only file in the dataset's folder, or else the only one below the root."""
        near = [path for path in found if path.relative_to(self.root).parts[0] == dataset] or found
        if len(near) > 1:
            places = ", ".join(str(path.relative_to(self.root)) for path in near[:3])
            raise DataError(f"does not exist, and several files have this name: {places}; write which one is meant")
        return near[0]

    @cached_property
    def _files_by_name(self) -> dict[str, list[Path]]:
        """Frames files below the root by `one_form` of their name."""
        files = defaultdict(list)
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.endswith(tuple(STORAGES)):
                    files[one_form(name)].append(Path(folder, name))
        return files
