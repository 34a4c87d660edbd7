"""JPEG frames in Arrow files: reading, checking, preparing for the model, writing."""

import base64
import io
import os
import struct
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from dst_dist.data.clips import ClipIndex
from dst_dist.errors import DataError

MAX_PIXELS = 64_000_000
"""An image with more is refused before it is decoded."""
GREY = 127
"""Every value of a frame that stands in for a missing one."""
ROWS_PER_BATCH = 64
HEADER_BYTES = 4096
"""As much of a row as nearly always holds the whole JPEG header; a multiple of 4, as base64 is."""

DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def preprocess(image: Image.Image, size: int) -> np.ndarray:
    """uint8 [3, size, size], RGB: the one way from an image to the model, for training, streaming and cache.

    As stock SmolVLM2 does, Lanczos and without keeping the aspect ratio; an image of that size is taken as it is.
    """
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).transpose(2, 0, 1)


def decode_jpeg(jpeg: bytes) -> Image.Image:
    """A decoded JPEG of at most MAX_PIXELS; raises one of DECODE_ERRORS for anything else, or a part of one."""
    image = _open_jpeg(jpeg)
    image.load()
    return image


def write_frames(path: Path, jpegs: Iterable[bytes]) -> None:
    """Write JPEG files as an Arrow stream with a binary column `frame`; the file appears when it is complete."""
    schema = pa.schema([("frame", pa.binary())])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    rows = iter(jpegs)
    with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(islice(rows, ROWS_PER_BATCH)):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.binary())], schema=schema))
    os.replace(unfinished, path)


class FramesFile:
    """One Arrow stream or file with a column `frame` of base64 strings or bytes, mapped into memory.

    Raises:
        DataError: if the file is missing, cut off, or of another shape.
    """

    def __init__(self, path: str):
        try:
            column = _read_column(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as Arrow: {error}; write or copy it again") from error
        self._is_base64 = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        self._chunks = column.chunks
        self._starts = list(accumulate(map(len, self._chunks), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def jpeg(self, row: int) -> bytes:
        """The row's JPEG file. Raises ValueError where there is none."""
        return self._bytes(self._cell(row))

    def check_header(self, row: int) -> None:
        """Raises one of DECODE_ERRORS unless the row starts as a JPEG of an allowed size; reads no more than that."""
        cell = self._cell(row)
        try:
            _open_jpeg(self._bytes(cell.slice(0, min(len(cell), HEADER_BYTES))))
        except DECODE_ERRORS:
            # Thumbnails and colour profiles can make a header longer.
            _open_jpeg(self._bytes(cell))

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


class FrameReader:
    """Reads frames as the model takes them; at most `max_open` files are mapped at once.

    Files are opened on first use in each process, so a reader may be handed to data workers.
    """

    def __init__(self, size: int, max_open: int = 8):
        self.size = size
        self.max_open = max_open
        self._files: OrderedDict[str, FramesFile] = OrderedDict()
        self._process = os.getpid()

    def num_frames(self, path: str) -> int:
        """Rows of a frames file. Raises DataError if it cannot be read."""
        return len(self._file(path))

    def read(self, path: str, rows: Sequence[int], out: np.ndarray) -> np.ndarray:
        """Fill `out`, uint8 [n, 3, size, size], with the rows of a frames file.

        Returns:
            bool [n], False where a row is missing or corrupt and its frame is GREY; the caller counts or stops.
        """
        good = np.zeros(len(rows), dtype=bool)
        try:
            file = self._file(path)
        except DataError:
            out[:] = GREY
            return good
        for position, row in enumerate(rows):
            try:
                out[position] = preprocess(decode_jpeg(file.jpeg(row)), self.size)
                good[position] = True
            except DECODE_ERRORS:
                out[position] = GREY
        return good

    def _file(self, path: str) -> FramesFile:
        if self._process != os.getpid():
            self._files.clear()
            self._process = os.getpid()
        if path not in self._files:
            while len(self._files) >= self.max_open:
                self._files.popitem(last=False)
            self._files[path] = FramesFile(path)
        self._files.move_to_end(path)
        return self._files[path]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_files": OrderedDict()}


@dataclass
class FrameFaults:
    """What is wrong with the frames of an index's clips; keys are positions in the index."""

    clips: dict[int, str] = field(default_factory=dict)
    """A sentence that names the clip and its first fault."""
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Absolute frames that are missing or corrupt, ascending."""
    unusable: set[int] = field(default_factory=set)
    """Clips without a single good frame."""
    num_bytes: dict[str, int] = field(default_factory=dict)
    """Size of each frames file by the name of its video, 0 where there is none."""


def check_frames(index: ClipIndex, decode: bool = False) -> FrameFaults:
    """Check that every frame of every clip exists and has a JPEG header; each row is looked at once.

    Args:
        decode: decode every row as well, which finds images that are cut off.
    """
    by_file: dict[tuple[str, str], list[tuple[int, str, range]]] = defaultdict(list)
    for position, clip in enumerate(index):
        use = position, clip.id, range(clip.start_frame, clip.end_frame)
        by_file[clip.frames_path, clip.video].append(use)
    faults = FrameFaults()
    for (path, video), uses in by_file.items():
        faults.num_bytes[video] = os.path.getsize(path) if os.path.isfile(path) else 0
        wrong = _wrong_rows(path, [frames for _, _, frames in uses], decode)
        for position, clip_id, frames in uses:
            missing = tuple(frame for frame in frames if frame in wrong)
            if missing:
                faults.clips[position] = (
                    f"clip {clip_id}: {len(missing)} of {len(frames)} frames in {video} are missing or corrupt, "
                    f"the first is frame {missing[0]}: {wrong[missing[0]]}"
                )
                faults.missing[position] = missing
            if len(missing) == len(frames):
                faults.unusable.add(position)
    return faults


def _wrong_rows(path: str, ranges: list[range], decode: bool) -> dict[int, str]:
    """Row -> what is wrong with it, for all rows of the ranges."""
    rows = sorted(set().union(*ranges))
    if not os.path.isfile(path):
        return dict.fromkeys(rows, "no such file")
    try:
        file = FramesFile(path)
    except DataError as error:
        return dict.fromkeys(rows, str(error))
    return dict(_look_at(file, rows, decode))


def _look_at(file: FramesFile, rows: Iterable[int], decode: bool) -> Iterator[tuple[int, str]]:
    for row in rows:
        try:
            if decode:
                decode_jpeg(file.jpeg(row))
            else:
                file.check_header(row)
        except DECODE_ERRORS as error:
            yield row, str(error)


def _read_column(path: str) -> pa.ChunkedArray:
    source = pa.memory_map(path)
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    table = (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)).read_all()
    if "frame" not in table.column_names:
        raise DataError(f"{path}: no column `frame`, but {', '.join(table.column_names) or 'none at all'}")
    column = table["frame"]
    if str(column.type) not in ("string", "large_string", "binary", "large_binary"):
        raise DataError(f"{path}: column `frame` must be base64 strings or JPEG bytes, not {column.type}")
    for chunk in column.chunks:
        # Offsets that point outside the data would end the process; as bytes this check reads the offsets alone.
        chunk.view(pa.large_binary() if "large" in str(column.type) else pa.binary()).validate(full=True)
    return column


def _open_jpeg(jpeg: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    except Image.UnidentifiedImageError:
        raise ValueError("not a JPEG image") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the {MAX_PIXELS} allowed")
    return image
