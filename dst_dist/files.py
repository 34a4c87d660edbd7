"""Write files so that a reader sees all of a file or none of it: under a temporary name, flushed, then renamed."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file written there replaces `path` once it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes on several nodes may write the same file at once, and have the same number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, parts: str | Iterable[str]) -> None:
    """Write a text file that is never seen half written."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines([parts] if isinstance(parts, str) else parts)


def flush(path: Path) -> None:
    """Put a file's content on the disk, or the names in a folder."""
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
    """Return the first of `<path>.<word>-1`, `<path>.<word>-2`, ... that does not exist."""
    number = 1
    while (name := path.with_name(f"{path.name}.{word}-{number}")).exists():
        number += 1
    return name
