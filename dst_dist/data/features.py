"""Writes and reads features files: the output of a frozen part of the model for each frame, encoded once.

A features file belongs to one frames file and is memory-mapped. It holds a header of HEADER_BYTES, the features of each
row, and a byte for each row: whether its frame was good.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from dst_dist.data.frames import GREY, FrameReader, open_frames
from dst_dist.errors import DataError
from dst_dist.files import replacing, sha256

SUFFIX = ".features"
HEADER_BYTES = 4096
"""A multiple of the page size, so that the features behind it are aligned."""
FORMAT = 1
GREY_FILE = f"grey{SUFFIX}"
"""Holds one row: the features of a grey frame, which stands for every missing one."""
NUMPY_DTYPES = {torch.float32: np.dtype(np.float32), torch.bfloat16: np.dtype(np.uint16)}
"""Numpy's dtype of features on the disk; numpy has no bfloat16."""

Encode = Callable[[torch.Tensor], torch.Tensor]
"""Returns the features of frames, uint8 [n, 3, S, S] -> [n, *shape], on the CPU."""
Decoded = Iterable[tuple[torch.Tensor, np.ndarray]]
"""Pieces of a frames file: frames, uint8 [n, 3, S, S], and which are good, bool [n]."""


@dataclass(frozen=True)
class Layout:
    """Shape and dtype of a frame's features."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes of a frame's features."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class FeatureStore:
    """The features files of one model in a folder.

    Args:
        folder: named by a digest of everything that decides a frame's features, so another model has another folder.
        root: the data root. A features file is named by a digest of its frames file's path below the root, since some
            file systems do not take every name, or do not tell upper from lower case.
    """

    def __init__(self, folder: Path, root: Path, layout: Layout):
        self.folder, self.layout = folder, layout
        self._root = Path(os.path.realpath(root))

    def is_fresh(self, frames_path: str) -> bool:
        """Return whether there are features of the frames file as it is now.

        Size and time of the frames file decide. If only the time differs, its content does, and the time is noted.
        """
        try:
            header = read_header(self.path(frames_path))
            now = os.stat(frames_path)
        except OSError:
            return False
        if header is None or header["num_bytes"] != now.st_size or not self._has_layout(header):
            return False
        if header["mtime_ns"] == now.st_mtime_ns:
            return True
        return header["sha256"] == sha256(Path(frames_path)) and self._note_time(frames_path, header, now.st_mtime_ns)

    def write(self, frames_path: str, encode: Encode, image_size: int, rows_at_once: int, num_threads: int) -> None:
        """Encode a frames file and write its features; the file appears when it is complete and on the disk.

        Args:
            rows_at_once: frames of one call of `encode`.
            num_threads: threads that decode ahead.

        Raises:
            DataError: if the frames file cannot be opened.
            OSError: if the features cannot be written.
        """
        num_rows, now = len(open_frames(frames_path)), os.stat(frames_path)
        header = self._header(num_rows, now.st_size, now.st_mtime_ns, sha256(Path(frames_path)))
        chunks = [range(start, min(start + rows_at_once, num_rows)) for start in range(0, num_rows, rows_at_once)]
        decoded = _decode(frames_path, chunks, image_size, num_threads)
        self._write(self.path(frames_path), header, decoded, encode)

    @property
    def has_grey(self) -> bool:
        """Whether there are features of a grey frame."""
        header = read_header(self.folder / GREY_FILE)
        return header is not None and self._has_layout(header)

    def write_grey(self, encode: Encode, image_size: int) -> None:
        """Write the features of a grey frame, unless they are there."""
        if not self.has_grey:
            grey = torch.full((1, 3, image_size, image_size), GREY, dtype=torch.uint8)
            self._write(self.folder / GREY_FILE, self._header(1, 0, 0, ""), [(grey, np.ones(1, bool))], encode)

    def path(self, frames_path: str) -> Path:
        """Return the place of a frames file's features."""
        place = os.fsencode(Path(frames_path).relative_to(self._root))
        return self.folder / f"{hashlib.sha256(place).hexdigest()[:32]}{SUFFIX}"

    def _write(self, path: Path, header: dict, decoded: Decoded, encode: Encode) -> None:
        good = []
        with replacing(path) as part, open(part, "wb") as file:
            file.write(_as_block(header))
            for frames, is_good in decoded:
                features = encode(frames)
                assert features.shape[1:] == self.layout.shape and features.dtype == self.layout.dtype
                file.write(features.contiguous().view(torch.uint8).numpy().tobytes())
                good.append(is_good)
            file.write(b"".join(one.tobytes() for one in good))

    def _header(self, num_rows: int, num_bytes: int, mtime_ns: int, digest: str) -> dict:
        """Return a header; the last three arguments are about the frames file that the features are made from."""
        source = {"num_bytes": num_bytes, "mtime_ns": mtime_ns, "sha256": digest}
        return {"format": FORMAT, "num_rows": num_rows, **self._layout_values(), **source}

    def _has_layout(self, header: dict) -> bool:
        return all(header.get(key) == value for key, value in self._layout_values().items())

    def _layout_values(self) -> dict:
        return {"shape": list(self.layout.shape), "dtype": str(self.layout.dtype).removeprefix("torch.")}

    def _note_time(self, frames_path: str, header: dict, mtime_ns: int) -> bool:
        try:
            descriptor = os.open(self.path(frames_path), os.O_WRONLY)
        except OSError:
            # A cache that only others may write: the features are good, and are compared again next time.
            return True
        try:
            # One block. If it is cut short, the header cannot be read and the file is made again.
            os.pwrite(descriptor, _as_block({**header, "mtime_ns": mtime_ns}), 0)
        finally:
            os.close(descriptor)
        return True


def _as_block(header: dict) -> bytes:
    return json.dumps(header).encode().ljust(HEADER_BYTES)


def _decode(frames_path: str, chunks: Sequence[range], image_size: int, num_threads: int) -> Decoded:
    """Yield the frames of each chunk of rows and which are good, in order; threads decode a few chunks ahead."""
    reader = FrameReader(image_size)

    def read(rows: range) -> tuple[torch.Tensor, np.ndarray]:
        frames = reader.empty(len(rows))
        return frames, reader.read(frames_path, rows, frames)

    with ThreadPoolExecutor(num_threads) as pool:
        waiting = deque()
        for rows in chunks:
            waiting.append(pool.submit(read, rows))
            if len(waiting) > num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_header(path: Path) -> dict | None:
    """Return the header of a features file, or None if there is no whole file."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(HEADER_BYTES))
            num_bytes = os.fstat(file.fileno()).st_size
        if header["format"] != FORMAT:
            return None
        row = int(np.prod(header["shape"])) * getattr(torch, header["dtype"]).itemsize
        return header if num_bytes == HEADER_BYTES + header["num_rows"] * (row + 1) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


class FeatureReader:
    """Reads features as `FrameReader` reads frames; keeps the `max_open` files read last mapped.

    Args:
        absent: as in `FrameReader`.

    Raises:
        DataError: if the features of a grey frame are missing, or files cannot be mapped into memory here.
    """

    def __init__(self, store: FeatureStore, max_open: int = 8, absent: frozenset[str] = frozenset()):
        self._store, self._max_open, self.absent = store, max_open, absent
        self._open = lru_cache(max_open)(self._map)
        try:
            grey = self._map(store.folder / GREY_FILE)
        except OSError as error:
            raise DataError(f"{store.folder}: cannot be mapped into memory: {error.strerror}") from error
        if grey is None:
            raise DataError(f"{store.folder}: holds no {GREY_FILE}; run dst-dist features again")
        self._grey = self._tensor(grey[0])

    def __reduce__(self):
        return FeatureReader, (self._store, self._max_open, self.absent)

    def with_open_files(self, max_open: int) -> "FeatureReader":
        """Return a reader of the same features that keeps so many files open."""
        return FeatureReader(self._store, max_open, self.absent)

    def empty(self, number: int) -> torch.Tensor:
        """Return room for the features of so many frames, [number, *shape]."""
        return torch.empty(number, *self._store.layout.shape, dtype=self._store.layout.dtype)

    def read(self, path: str, rows: Sequence[int], out: torch.Tensor) -> np.ndarray:
        """Fill `out`, [n, *shape], with the features of rows of a frames file.

        Returns:
            bool [n], False where a frame is missing or corrupt and its features are those of a grey one.

        Raises:
            DataError: if there are no features of a file that is not among the absent ones.
        """
        rows, file = np.asarray(rows, dtype=np.int64), self._open(self._store.path(path))
        if file is None and path in self.absent:
            out[:] = self._grey
            return np.zeros(len(rows), bool)
        if file is None:
            raise DataError(
                f"{self._store.path(path)}: the features of {path} are gone; mount or copy data.feature_cache again, "
                "or run the same command again, which encodes what is missing"
            )
        features, is_good = file
        inside = (rows >= 0) & (rows < len(features))
        good = inside & is_good[np.where(inside, rows, 0)] if len(features) else inside
        out[torch.from_numpy(good)] = self._tensor(features[rows[good]])
        out[torch.from_numpy(~good)] = self._grey
        return good

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(values)).view(self._store.layout.dtype)

    def _map(self, path: Path) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a file's features [rows, *shape] and which rows are good, bool [rows]; None if there is no file."""
        header = read_header(path)
        if header is None:
            return None
        layout, num_rows = self._store.layout, header["num_rows"]
        data = np.memmap(path, np.uint8, mode="r", offset=HEADER_BYTES) if num_rows else np.empty(0, np.uint8)
        features = data[: num_rows * layout.num_bytes].view(NUMPY_DTYPES[layout.dtype])
        return features.reshape(num_rows, *layout.shape), data[num_rows * layout.num_bytes :].view(bool)
