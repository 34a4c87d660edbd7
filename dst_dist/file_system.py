"""Test what a file system can do before a run depends on it; some operations may be missing."""

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dst_dist.errors import ConfigError
from dst_dist.files import FAILURES, sync


class Ask(NamedTuple):
    """An operation that a file system is tested for."""

    words: str
    do: Callable[[Path], None]
    """Performs it in an empty folder; raises OSError if it is not possible."""
    without: str | None = None
    """Consequence if it is not possible; None if nothing works without it."""


def _append(folder: Path) -> None:
    for text in ("one\n", "two\n", "thr"):
        with open(folder / "file", "a", encoding="utf-8") as file:
            file.write(text)
    with open(folder / "file", "rb+") as file:
        file.truncate(8)
    if (folder / "file").read_bytes() != b"one\ntwo\n":
        raise OSError(errno.EIO, "other bytes are read than were written")


def _replace(folder: Path) -> None:
    for name in ("old", "new"):
        (folder / name).write_text(name, encoding="utf-8")
    (folder / "new").replace(folder / "old")
    if (folder / "old").read_text(encoding="utf-8") != "new" or (folder / "new").exists():
        raise OSError(errno.EIO, "the old file is still there")


def _rename_folder(folder: Path) -> None:
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "file").write_text("", encoding="utf-8")
    (folder / "unfinished").rename(folder / "finished")


def _flush_file(folder: Path) -> None:
    with open(folder / "flushed", "w", encoding="utf-8") as file:
        os.fsync(file.fileno())


def _link(folder: Path) -> None:
    (folder / "link").symlink_to("file")


def _map(folder: Path) -> None:
    with open(folder / "mapped", "wb+") as file:
        file.write(b"text")
        file.flush()
        mmap.mmap(file.fileno(), 4, access=mmap.ACCESS_READ).close()


MAY_BE_LOST = "what was written last may be lost or damaged when the machine fails"
WRITES = (Ask("rename a file over another", _replace), Ask("flush a file", _flush_file, MAY_BE_LOST))
RUN_FOLDER = (
    Ask("append to a file and cut it", _append),
    *WRITES,
    Ask("rename a folder", _rename_folder),
    Ask("flush a folder", sync, MAY_BE_LOST),
    Ask("make symbolic links", _link, "`last` and `best` are text files with the place of the checkpoint"),
)
FEATURE_CACHE = (*WRITES, Ask("map a file into memory", _map))


def try_folder(key: str, folder: Path, asks: Sequence[Ask]) -> list[str]:
    """Make a folder, and test the operations in it.

    Args:
        key: what names the folder: a recipe key or an option.

    Returns:
        A clause for each missing operation that may be missing.

    Raises:
        ConfigError: if another one is missing.
    """
    lacking = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".tried-", dir=folder))
    except OSError as error:
        raise ConfigError(f"{key}: {folder} cannot be written: {error.strerror}") from error
    try:
        for ask in asks:
            try:
                ask.do(scratch)
            except OSError as error:
                if ask.without is None or error.errno in FAILURES:
                    raise ConfigError(
                        f"{key}: in {folder} it is not possible to {ask.words}: {error.strerror}; "
                        "name a folder on another file system"
                    ) from error
                lacking.append(f"cannot {ask.words} ({error.strerror}): {ask.without}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return lacking
