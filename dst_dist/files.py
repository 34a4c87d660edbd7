"""Files that are there in whole or not at all: written beside, flushed to the disk, renamed."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write a file at; the file takes the place of `path` once it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        flush(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: Path, parts: str | Iterable[str]) -> None:
    """Write a text file so that it is never seen in part."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.writelines([parts] if isinstance(parts, str) else parts)


def flush(path: Path) -> None:
    """Put a file's content on the disk, or what was made and renamed in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_name(path: Path, word: str) -> Path:
    """Return the first of `<path>.<word>-1`, `-2`, ... that nothing has."""
    number = 1
    while (name := path.with_name(f"{path.name}.{word}-{number}")).exists():
        number += 1
    return name
