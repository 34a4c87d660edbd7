"""Writes and maps files of JSON and arrays; a damaged or unfinished one is never taken for a good one.

Line 1 is the sha256 of all that follows, line 2 the JSON with the type and shape of each array; then come the arrays.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dst_dist.files import replacing

DIGEST_LINE_BYTES = 65
ALIGNMENT_BYTES = 64

Arrays = dict[str, np.ndarray]


def write_mapped(path: Path, header: dict[str, Any], arrays: Arrays) -> None:
    """Write a header that JSON can spell, and arrays of any type without objects; the file appears when complete."""
    forms = {name: [np.lib.format.dtype_to_descr(values.dtype), values.shape] for name, values in arrays.items()}
    with replacing(path) as temporary, temporary.open("w+b") as file:
        file.write(bytes(DIGEST_LINE_BYTES))
        file.write(json.dumps({"header": header, "arrays": forms}).encode() + b"\n")
        for values in arrays.values():
            file.write(bytes(-file.tell() % ALIGNMENT_BYTES))
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
        digest = _digest(file)
        file.seek(0)
        file.write(digest)


def read_mapped(path: Path, verify: bool = True) -> tuple[dict[str, Any], Arrays] | None:
    """Return header and arrays, which are read-only views of the mapped file; None if there is no whole file.

    Args:
        verify: read the file once and compare its digest. Otherwise only its size is looked at.
    """
    try:
        with path.open("rb") as file:
            if verify and file.read(DIGEST_LINE_BYTES) != _digest(file):
                return None
            file.seek(DIGEST_LINE_BYTES)
            content = json.loads(file.readline())
            start = file.tell()
            mapped = np.asarray(np.memmap(file, np.uint8, "r"))
        return content["header"], _views(mapped, start, content["arrays"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _digest(file: BinaryIO) -> bytes:
    """Return the digest line that belongs to what follows it."""
    file.seek(DIGEST_LINE_BYTES)
    return hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n"


def _views(mapped: np.ndarray, end: int, forms: dict[str, Any]) -> Arrays:
    """Return the arrays of a mapped file. Raises ValueError if its size is not theirs."""
    arrays = {}
    for name, (form, shape) in forms.items():
        # JSON makes lists of the tuples that numpy wants.
        descr = form if isinstance(form, str) else [tuple(field) for field in form]
        dtype = np.lib.format.descr_to_dtype(descr)
        start = end + -end % ALIGNMENT_BYTES
        end = start + int(np.prod(shape)) * dtype.itemsize
        arrays[name] = mapped[start:end].view(dtype).reshape(shape)
    if end != len(mapped):
        raise ValueError(f"{len(mapped)} bytes, {end} expected")
    return arrays
