"""Writes and reads training state: stretches of flattened tensors in safetensors files, for any number of processes.

Each parameter's state is one flat row of numbers. A process writes the stretches that it holds, so nothing is
gathered, and a reader finds any stretch by name and offset. A file is written front to back and its checksum is
computed on the way.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from dst_dist.errors import CheckpointError
from dst_dist.files import flush

DTYPES = {torch.float32: "F32", torch.uint8: "U8"}
CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Stretch:
    """Entries [start, start + len(values)) of one flattened tensor."""

    name: str
    start: int
    values: torch.Tensor  # 1-D

    @property
    def key(self) -> str:
        """Name in the file."""
        return f"{self.name}@{self.start}"


def write_stretches(path: Path, stretches: Sequence[Stretch]) -> str:
    """Write a safetensors file, flush it to the disk and return its sha256.

    The library's own writer wants all tensors in host memory at once; here one at a time is copied from the device.
    """
    header, offset = {}, 0
    for stretch in stretches:
        end = offset + stretch.values.nbytes
        shape = list(stretch.values.shape)
        header[stretch.key] = {"dtype": DTYPES[stretch.values.dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return write_flushed(path, _pieces(len(text).to_bytes(8, "little") + text, stretches))


def write_flushed(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write a file, flush it to the disk and return its sha256."""
    digest = hashlib.sha256()
    # Without a buffer: a data worker that is forked meanwhile would inherit what is in it, and may write it again.
    with open(path, "wb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:
        for piece in pieces:
            hashed = hasher.submit(digest.update, piece)
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]
            hashed.result()
    flush(path)
    return digest.hexdigest()


def _pieces(head: bytes, stretches: Sequence[Stretch]) -> Iterable[bytes | memoryview]:
    """Yield the file's bytes, in order."""
    yield head
    for stretch in stretches:
        data = memoryview(stretch.values.detach().cpu().contiguous().numpy()).cast("B")
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]


class StretchReader:
    """Finds stretches in the state files of a checkpoint."""

    def __init__(self, paths: Iterable[Path]):
        self._files = [safe_open(path, framework="pt") for path in paths]
        self._places: dict[str, list[tuple[int, int, str]]] = {}
        for number, file in enumerate(self._files):
            for key in file.keys():  # noqa: SIM118, the file itself is no iterable
                name, _, start = key.rpartition("@")
                self._places.setdefault(name, []).append((int(start), number, key))

    def fill(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out`, 1-D, with entries [start, start + len(out)) of a tensor.

        Raises:
            CheckpointError: if some of them are missing.
        """
        filled = 0
        for first, number, key in self._places.get(name, []):
            piece = self._files[number].get_slice(key)
            low, high = max(first, start), min(first + piece.get_shape()[0], start + len(out))
            if low < high:
                out[low - start : high - start].copy_(piece[low - first : high - first])
                filled += high - low
        if filled != len(out):
            raise CheckpointError(f"the checkpoint has {filled} of the {len(out)} entries wanted of {name}")
