"""Opens, reads and writes frames files. STORAGES has the class of each kind of file."""

import base64
import mmap
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from dst_dist.data.images import DECODE_ERRORS, decode_jpeg, open_jpeg, preprocess
from dst_dist.data.jpeg_header import plain_header
from dst_dist.errors import DataError
from dst_dist.files import replacing

SUFFIX = ".arrow"
"""Ending of the frames files that `write_frames` makes."""
GREY = 127
"""Value of every pixel of a placeholder, the frame shown for a missing one."""
ROWS_PER_BATCH = 64
MAX_OPEN_FILES = 8
"""Frames files that a data worker keeps open."""
HEADER_BYTES = 4096
"""Bytes of a row that nearly always hold the whole JPEG header; a multiple of 4, as base64 is."""
PLAIN_HEADER_BYTES = 1024
"""Bytes of a row that hold a plain JPEG header, mostly in one page of the disk."""
END_BYTES = 64
"""Bytes of a row's end that hold a JPEG's end marker, also where some padding follows; a multiple of 4."""
END_OF_IMAGE = b"\xff\xd9"


def open_frames(path: str, is_skimmed: bool = False) -> "ArrowFrames":
    """Return an open frames file. Raises DataError if it is missing, cut off, or of another shape.

    Args:
        is_skimmed: whether only the beginnings of rows will be read; the disk then reads no more than these.
    """
    return STORAGES.get(Path(path).suffix, ArrowFrames)(path, is_skimmed)


def write_frames(path: Path, jpegs: Iterable[bytes]) -> None:
    """Write JPEG files as an Arrow stream with a binary column `frame`; the file appears when it is complete."""
    with replacing(path) as part:
        write_rows(part, jpegs)


def write_rows(path: Path, jpegs: Iterable[bytes]) -> None:
    """Write what `write_frames` does, in place."""
    schema = pa.schema([("frame", pa.binary())])
    rows = iter(jpegs)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(islice(rows, ROWS_PER_BATCH)):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.binary())], schema=schema))


class ArrowFrames:
    """One Arrow stream or file with a column `frame` of base64 strings or bytes, mapped into memory.

    Attributes:
        held_bytes: what this process holds in memory of its own: all of a compressed file, nothing of another.
    """

    def __init__(self, path: str, is_skimmed: bool = False):
        try:
            column, self.held_bytes = _read_column(path, is_skimmed)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as Arrow: {error}; write or copy it again") from error
        self._is_base64 = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        self._chunks = column.chunks
        self._starts = list(accumulate(map(len, self._chunks), initial=0))
        # Most rows have the header of the row before: an encoder writes it from its settings and the size.
        self._header = b""

    def __len__(self) -> int:
        return self._starts[-1]

    def jpeg(self, row: int) -> bytes:
        """Return the row's JPEG file. Raises ValueError if there is none."""
        return self._bytes(self._cell(row))

    def image(self, row: int) -> np.ndarray:
        """Return the row as RGB, uint8 [height, width, 3]. Raises one of DECODE_ERRORS if that is not possible."""
        return decode_jpeg(self.jpeg(row))

    def check_row(self, row: int) -> None:
        """Raise ValueError if there is no such row, nothing in it, or half a base64 text; its content is not read."""
        self._check_length(self._cell(row))

    def check_header(self, row: int) -> None:
        """Read a row's JPEG header and its end; without an end marker there, the whole row is decoded.

        Raises one of DECODE_ERRORS if the header is none, or of too large an image, or the image cannot be decoded.
        """
        cell = self._cell(row)
        self._check_length(cell)
        try:
            beginning = self._bytes(cell.slice(0, min(len(cell), PLAIN_HEADER_BYTES)))
            if not (self._header and beginning.startswith(self._header)):
                self._header = plain_header(beginning)
                if not self._header:
                    open_jpeg(self._bytes(cell.slice(0, min(len(cell), HEADER_BYTES))))
        except DECODE_ERRORS:
            # Thumbnails and colour profiles can make a header longer.
            open_jpeg(self._bytes(cell))
        # No other part of the coded image may hold these two bytes.
        if END_OF_IMAGE not in self._bytes(cell.slice(max(0, len(cell) - END_BYTES))):
            decode_jpeg(self._bytes(cell))

    def _check_length(self, cell: pa.Buffer) -> None:
        if not len(cell):
            raise ValueError("the row is empty")
        if self._is_base64 and len(cell) % 4:
            raise ValueError("base64 text whose length is no multiple of 4: its padding is missing, or it is cut off")

    def _cell(self, row: int) -> pa.Buffer:
        if not 0 <= row < len(self):
            raise ValueError(f"the file has {len(self)} rows")
        chunk = bisect_right(self._starts, row) - 1
        cell = self._chunks[chunk][row - self._starts[chunk]].as_buffer()
        if cell is None:
            raise ValueError("the row is null")
        return cell

    def _bytes(self, cell: pa.Buffer) -> bytes:
        return base64.b64decode(cell, validate=True) if self._is_base64 else cell.to_pybytes()


STORAGES = {SUFFIX: ArrowFrames}
"""Class of a frames file by the ending of its name; a file with another ending is read as Arrow."""


class FrameReader:
    """Reads frames as the model takes them, uint8 [3, size, size]; keeps the `max_open` files read last open.

    Args:
        absent: paths of files that had nothing for a clip when the data was checked. If one cannot be opened, its
            frames are GREY.
    """

    def __init__(self, size: int, max_open: int = MAX_OPEN_FILES, absent: frozenset[str] = frozenset()):
        self.size, self._max_open, self.absent = size, max_open, absent
        self._open = lru_cache(max_open)(open_frames)

    def with_open_files(self, max_open: int) -> "FrameReader":
        """Return a reader of the same frames that keeps so many files open."""
        return FrameReader(self.size, max_open, self.absent)

    def empty(self, number: int) -> torch.Tensor:
        """Return room for so many frames, uint8 [number, 3, size, size], laid out as `preprocess` returns them.

        The model brings them into the tower's order on its device, where that costs nothing beside the tower.
        """
        shape = (number, 3, self.size, self.size)
        return torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)

    def __reduce__(self):
        # A data worker that is not forked gets a pickled reader: without its files, which would be copied whole.
        return FrameReader, (self.size, self._max_open, self.absent)

    def read(self, path: str, rows: Sequence[int], out: torch.Tensor) -> np.ndarray:
        """Fill `out`, uint8 [n, 3, size, size], with rows of a frames file.

        Returns:
            bool [n], False where a row is missing or corrupt and its frame is GREY; the caller counts it or stops.

        Raises:
            DataError: if the file cannot be opened and is not among the absent ones: a disk that is lost must not turn
                a training's frames grey.
        """
        good, pixels = np.zeros(len(rows), dtype=bool), out.numpy()
        try:
            file = self._open(path)
        except DataError:
            if path not in self.absent:
                raise
            pixels[:] = GREY
            return good
        for position, row in enumerate(rows):
            try:
                pixels[position] = preprocess(file.image(row), self.size)
                good[position] = True
            except DECODE_ERRORS:
                pixels[position] = GREY
        return good


def _read_column(path: str, is_skimmed: bool) -> tuple[pa.ChunkedArray, int]:
    """Return a file's frames, and how many bytes of them are no view of the mapped file."""
    source = _map_for_skimming(path) if is_skimmed else pa.memory_map(path)
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    table = (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)).read_all()
    if "frame" not in table.column_names:
        raise DataError(f"{path}: no column `frame`, but {', '.join(table.column_names) or 'none at all'}")
    column = table["frame"]
    if str(column.type) not in ("string", "large_string", "binary", "large_binary"):
        raise DataError(f"{path}: column `frame` must be base64 strings or JPEG bytes, not {column.type}")
    for chunk in column.chunks:
        # Offsets that point outside the data would crash the process. Viewed as bytes, only the offsets are read.
        chunk.view(pa.large_binary() if "large" in str(column.type) else pa.binary()).validate(full=True)
    source.seek(0)
    mapped = source.read_buffer()
    end = mapped.address + mapped.size
    buffers = (buffer for chunk in column.chunks for buffer in chunk.buffers() if buffer is not None)
    return column, sum(buffer.size for buffer in buffers if not mapped.address <= buffer.address < end)


def _map_for_skimming(path: str) -> pa.NativeFile:
    """Return a mapped file; the disk reads the used pages alone, and none ahead."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    return pa.BufferReader(pa.py_buffer(mapped))
