"""Write files so that a reader sees all of a file or none of it: under a temporary name, flushed, then renamed."""

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOENT}
"""Errors of a call that failed this time. Any other error means that the file system cannot do it, or not for this
user; a run says so once, see `dst_dist.file_system.try_folder`."""

LEFT_S = 24 * 3600.0
"""A temporary file that nobody has written to for so long is what a killed process left."""


def new_word() -> str:
    """Return a word that ends temporary names; no process, on any node, has another's."""
    return secrets.token_hex(8)


@contextmanager
def replacing(path: Path, word: str | None = None) -> Iterator[Path]:
    """Yield a temporary path; the file written there replaces `path` once it is complete and on the disk.

    Args:
        word: ends the temporary name; one for all files of a process lets it remove what its killed workers left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{word or new_word()}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: Container[str], word: str) -> None:
    """Remove temporary files of these names: those that end with `word`, and those left for LEFT_S.

    Others may be written at this moment, by a process on another machine.
    """
    for temporary in folder.glob(".*"):
        name, _, end = temporary.name[1:].rpartition(".")
        if name in names and re.fullmatch("[0-9a-f]{16}", end):
            # Another process may remove it first, or it may be another user's.
            with suppress(OSError):
                if end == word or temporary.stat().st_mtime < time.time() - LEFT_S:
                    temporary.unlink()


def write_whole(path: Path, parts: str | Iterable[str]) -> None:
    """Write a text file that is never seen half written."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines([parts] if isinstance(parts, str) else parts)


def flush(path: Path) -> None:
    """Put a file's content on the disk, or the names in a folder, where the file system can."""
    try:
        sync(path)
    except OSError as error:
        if error.errno in FAILURES:
            raise


def sync(path: Path) -> None:
    """Put a file's content on the disk, or the names in a folder. Raises OSError if that cannot be done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def point_to(path: Path, target: Path) -> None:
    """Make a symbolic link to `target`, a path from the link's folder, or without links a text file with that path."""
    try:
        path.symlink_to(target)
    except OSError as error:
        if error.errno in FAILURES:
            raise
        path.write_text(f"{target}\n", encoding="utf-8")


def pointed_to(path: Path) -> Path | None:
    """Return the target of what `point_to` made; None if there is none."""
    if path.is_symlink():
        return path.readlink()
    return Path(path.read_text(encoding="utf-8").strip()) if path.is_file() else None


def free_bytes(folder: Path) -> int | None:
    """Return the room in a folder for this user; None if the file system does not say."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def sha256(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_name(path: Path, word: str) -> Path:
    """Return the first of `<path>.<word>-1`, `<path>.<word>-2`, ... that does not exist."""
    number = 1
    while (name := path.with_name(f"{path.name}.{word}-{number}")).exists():
        number += 1
    return name
