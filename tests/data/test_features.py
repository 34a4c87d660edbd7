"""Files of features: what a reader gives back, and which files are never used."""

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dst_dist.data.features import GREY_FILE, HEADER_BYTES, FeatureReader, FeatureStore, Layout, read_header
from dst_dist.data.frames import GREY, write_frames
from dst_dist.errors import DataError
from tests.data.handmade import jpeg

SIZE = 16
LAYOUT = Layout((2, 3), torch.float32)


def encode(frames):
    """Return six features of a frame: its mean, and five multiples of it."""
    return (frames.float().mean((1, 2, 3))[:, None] * torch.arange(1.0, 7)).view(-1, 2, 3)


def video(root, values, name="a"):
    """Write a frames file of grey frames; None makes a row that is no JPEG."""
    path = root / f"set/frames/{name}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_frames(path, [b"no jpeg" if value is None else jpeg(value, (SIZE, SIZE)) for value in values])
    return str(path)


@pytest.fixture
def store(tmp_path):
    made = FeatureStore(tmp_path / "cache/key", tmp_path / "data", LAYOUT)
    made.write_grey(encode, SIZE)
    return made


def written(store, path):
    store.write(path, encode, SIZE, rows_at_once=2, num_threads=2)
    return store


def read(store, path, rows):
    reader = FeatureReader(store)
    out = reader.empty(len(rows))
    good = reader.read(path, rows, out)
    return good.tolist(), out[:, 0, 0].round().tolist()


def test_rows_come_back_in_the_order_asked_for(store, tmp_path):
    path = video(tmp_path / "data", [10, 20, 30, 40, 50])
    written(store, path)
    assert read(store, path, [4, 0, 2]) == ([True] * 3, [50, 10, 30])
    name = hashlib.sha256(b"set/frames/a.arrow").hexdigest()[:32]
    assert store.path(path) == tmp_path / f"cache/key/{name}.features"


def test_corrupt_and_missing_rows_are_grey_and_not_good(store, tmp_path):
    path = video(tmp_path / "data", [10, None, 30])
    written(store, path)
    assert read(store, path, [0, 1, 2, 3, -1]) == ([True, False, True, False, False], [10, GREY, 30, GREY, GREY])
    assert read(store, path, []) == ([], [])


def test_features_that_are_gone_are_grey_only_where_the_frames_were_absent(store, tmp_path):
    other = video(tmp_path / "data", [1], name="not encoded")
    with pytest.raises(DataError, match="the features of .*not encoded.arrow are gone"):
        read(store, other, [0])
    reader = FeatureReader(store, absent=frozenset([other])).with_open_files(1)
    for same in (reader, pickle.loads(pickle.dumps(reader))):
        out = same.empty(1)
        assert same.read(other, [0], out).tolist() == [False] and out[0, 0, 0] == GREY


def test_a_video_without_rows(store, tmp_path):
    path = video(tmp_path / "data", [])
    assert written(store, path).is_fresh(path)
    assert read(store, path, [0]) == ([False], [GREY])


def test_bfloat16_comes_back_bit_by_bit(tmp_path):
    store = FeatureStore(tmp_path / "key", tmp_path, Layout((2, 3), torch.bfloat16))
    store.write_grey(lambda frames: encode(frames).bfloat16(), SIZE)
    path = video(tmp_path, [10, 33])
    store.write(path, lambda frames: encode(frames).bfloat16() / 7, SIZE, 1, 1)
    reader = FeatureReader(store)
    out = reader.empty(2)
    reader.read(path, [1, 0], out)
    expected = encode(torch.tensor([33, 10])[:, None, None, None]).bfloat16() / 7
    assert out.dtype == torch.bfloat16 and torch.equal(out, expected)


def test_chunks_and_threads_write_the_same_bytes(store, tmp_path):
    path = video(tmp_path / "data", list(range(0, 100, 7)))
    files = []
    for rows_at_once, num_threads in ((1, 1), (4, 3), (100, 2)):
        store.write(path, encode, SIZE, rows_at_once, num_threads)
        files.append(store.path(path).read_bytes())
    assert len(set(files)) == 1


def rewrite(path):
    """The same number of bytes, another picture."""
    data = bytearray(Path(path).read_bytes())
    data[data.rindex(b"\xff\xd9") - 10] ^= 1
    Path(path).write_bytes(data)


def set_header(store, path, **changes):
    file = store.path(path)
    content = file.read_bytes()
    header = json.loads(content[:HEADER_BYTES]) | changes
    file.write_bytes(json.dumps(header).encode().ljust(HEADER_BYTES) + content[HEADER_BYTES:])


SPOILED = {
    "another picture of the same size": lambda store, path: rewrite(path),
    "a row more": lambda store, path: video(store._root, [10, 20, 30, 40]),
    "the frames file is gone": lambda store, path: os.unlink(path),
    "the features are gone": lambda store, path: store.path(path).unlink(),
    "cut off": lambda store, path: os.truncate(store.path(path), store.path(path).stat().st_size - 1),
    "cut off in the header": lambda store, path: os.truncate(store.path(path), 100),
    "empty": lambda store, path: os.truncate(store.path(path), 0),
    "too long": lambda store, path: os.truncate(store.path(path), store.path(path).stat().st_size + 1),
    "no header": lambda store, path: store.path(path).write_bytes(b"\0" * store.path(path).stat().st_size),
    "another format": lambda store, path: set_header(store, path, format=2),
    "another dtype of the same size": lambda store, path: set_header(store, path, dtype="int32"),
    "another shape of the same size": lambda store, path: set_header(store, path, shape=[3, 2]),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_file_is_not_used(store, tmp_path, spoil):
    path = video(tmp_path / "data", [10, 20, 30])
    written(store, path)
    assert store.is_fresh(path)
    spoil(store, path)
    assert not store.is_fresh(path)


def test_another_time_with_the_same_content_is_looked_at_once(store, tmp_path, monkeypatch):
    path = video(tmp_path / "data", [10, 20])
    written(store, path)
    before = store.path(path).read_bytes()
    os.utime(path, ns=(1, 1))
    assert store.is_fresh(path)
    monkeypatch.setattr("dst_dist.data.features.sha256", lambda path: pytest.fail("was read again"))
    assert store.is_fresh(path)
    assert store.path(path).read_bytes()[HEADER_BYTES:] == before[HEADER_BYTES:]


def test_a_cache_that_may_only_be_read_serves_data_with_other_times(store, tmp_path, monkeypatch):
    path = video(tmp_path / "data", [10, 20])
    written(store, path)
    os.utime(path, ns=(1, 1))
    intact = os.open
    refuse = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(os, "open", lambda *given, **more: raised(refuse) if given[1] else intact(*given, **more))
    assert store.is_fresh(path) and store.is_fresh(path)


def raised(error):
    raise error


@pytest.mark.parametrize("names", [("a", "A"), ("é", "e\u0301"), ("a:b", "a?b"), ("x" * 240, "x" * 239), ("a.", "a ")])
def test_names_of_features_are_names_on_every_file_system(store, tmp_path, names):
    """Where upper and lower case are one, spellings are one, some characters are not allowed, names are short."""
    paths = [store.path(str(tmp_path / "data/set" / f"{name}.arrow")).name for name in names]
    assert paths[0] != paths[1] and all(re.fullmatch(r"[0-9a-f]{32}\.features", path) for path in paths)


def test_data_at_another_place_with_other_times_is_the_same(store, tmp_path):
    path = video(tmp_path / "data", [10, 20])
    written(store, path)
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    moved = FeatureStore(store.folder, tmp_path / "moved", LAYOUT)
    assert moved.is_fresh(str(tmp_path / "moved/set/frames/a.arrow"))


def test_an_interrupted_file_is_not_seen(store, tmp_path):
    path = video(tmp_path / "data", [10, 20, 30])

    def interrupted(frames):
        if frames.float().mean() > 25:
            raise KeyboardInterrupt
        return encode(frames)

    with pytest.raises(KeyboardInterrupt):
        store.write(path, interrupted, SIZE, 1, 1)
    assert [file.name for file in store.folder.rglob("*") if file.is_file()] == [GREY_FILE]
    assert not store.is_fresh(path)


def test_without_a_grey_frame_there_is_no_reader(tmp_path):
    with pytest.raises(DataError, match="holds no grey.features; run dst-dist features again"):
        FeatureReader(FeatureStore(tmp_path, tmp_path, LAYOUT))


def test_a_reader_reaches_a_worker_without_its_files(store, tmp_path):
    path = video(tmp_path / "data", [10, 20])
    written(store, path)
    reader = pickle.loads(pickle.dumps(FeatureReader(store)))
    out = reader.empty(1)
    assert reader.read(path, [1], out).all() and np.isclose(out[0, 0, 0], 20, atol=1)
    assert read_header(store.path(path))["num_rows"] == 2
