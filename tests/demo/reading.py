"""The demo's files, read back."""

from pathlib import Path

import pyarrow as pa

from dst_dist.data.reading import read_clips
from dst_dist.demo.world import DOMAINS, NEW_DOMAIN, Moment

NAMES = [domain.name for domain in (*DOMAINS, NEW_DOMAIN)]


def frames_of(path: Path) -> list[str | bytes]:
    """Return the column of a frames file."""
    return pa.ipc.open_stream(path).read_all()["frame"].to_pylist()


def clips_of(root: Path, split: str):
    """Return every clip of a split, in all four domains."""
    return read_clips(root, NAMES, split, strict=True)[0]


def moment(*transitions: tuple[int, str], statuses: tuple[str, ...], error=False, new_error=False) -> Moment:
    """Return a moment without a question."""
    return Moment(transitions, statuses, error, new_error, None)
