"""Resolves paths written in data files and recipes: always below the data root, in whichever Unicode form."""

import os
import unicodedata
from pathlib import Path, PurePosixPath

from dst_dist.errors import DataError

REPO_TYPES = {"datasets": " --repo-type dataset", "models": "", "spaces": " --repo-type space"}
"""Options of `hf download` by the beginning of a repository's folder in the hub's cache."""


def check_relative(written: str) -> PurePosixPath:
    """Return a path from a data file or recipe, which must be below the root.

    Raises:
        DataError: if it is absolute, has `..` in it, or is no path at all.
    """
    path = PurePosixPath(written)
    if path.is_absolute() or ".." in path.parts:
        raise DataError("leads out of the data root; write a path below it, without ..")
    if not path.parts or any(ord(character) < 32 for character in written):
        raise DataError("is not a path")
    return path


def one_form(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): macOS writes é as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def as_spelled(root: Path, written: PurePosixPath | Path) -> Path:
    """Return a relative path below the root with its names as the disk spells them, in whichever Unicode form."""
    path = root
    for name in written.parts:
        exact = path / name
        if not (name.isascii() or exact.exists()) and path.is_dir():
            same = [other for other in sorted(os.listdir(path)) if one_form(other) == one_form(name)]
            exact = path / (same or [name])[0]
        path = exact
    return path


def real_path(root: Path, path: Path) -> Path:
    """Return `path` with links followed; `root` must be real itself.

    Raises:
        DataError: if a link leads out of the root.
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise DataError(f"is a link that leads out of the data root, to {real}; {_remedy(root)}")
    return real


def _remedy(root: Path) -> str:
    """Return what to do about links out of the root; in a snapshot of the hub's cache every file is one."""
    snapshots = [path for path in root.parents if path.name == "snapshots"]
    kind, _, name = snapshots[0].parent.name.partition("--") if snapshots else ("", "", "")
    if kind not in REPO_TYPES:
        return "put the file below the root"
    return (
        "the root is a snapshot in Hugging Face's cache; run `hf download "
        f"{name.replace('--', '/', 1)}{REPO_TYPES[kind]} --local-dir DIR` and set data.root=DIR"
    )
