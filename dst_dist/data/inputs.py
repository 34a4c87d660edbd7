"""Identifies what a kept result depends on: files by their size and time, and the code that made it."""

import hashlib
import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from dst_dist import heads

LIBRARIES = ("pillow", "pyarrow", "pydantic", "tokenizers", "simplejpeg")
"""Packages whose version may change what is read, cut or found faulty."""
SETTLED_NS = 2_000_000_000
"""Age of a file that is not written any more. Some file systems count whole seconds: a younger file may change again
and keep its time."""


class Stat(NamedTuple):
    """Size in bytes and time of the last change of a file; both 0 if there is none."""

    size: int
    mtime_ns: int

    def is_settled(self, now_ns: int) -> bool:
        """Return whether a later change of the file will change its time."""
        return not self.is_odd(now_ns) and self.mtime_ns <= now_ns - SETTLED_NS

    def is_odd(self, now_ns: int) -> bool:
        """Return whether the time cannot be that of a change: in the future, or 0 as on file systems without times."""
        return self.size > 0 and not 0 < self.mtime_ns <= now_ns + SETTLED_NS


def stat_of(path: str | Path) -> Stat:
    """Return a file's size and time, links followed."""
    try:
        found = os.stat(path)
    except OSError:
        return Stat(0, 0)
    return Stat(found.st_size, found.st_mtime_ns) if os.path.isfile(path) else Stat(0, 0)


def code_digest(files: Iterable[Path] | None = None) -> str:
    """Return a hash of source files, by default all that read, check and cut, and of the versions of LIBRARIES."""
    if files is None:
        files = [Path(heads.__file__), *sorted(Path(__file__).parent.rglob("*.py"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    digest.update(repr([_version(name) for name in LIBRARIES]).encode())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
