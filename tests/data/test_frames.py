"""Frames files: opening, reading for the model, damage of every kind, writing."""

import base64
import multiprocessing
import os
import pickle
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
import torch

from dst_dist.data import frames, images, jpeg_header
from dst_dist.data.frames import GREY, FrameReader, open_frames, write_frames
from dst_dist.data.images import decode_jpeg
from dst_dist.errors import DataError
from tests.data.handmade import grey, jpeg, noisy_jpeg, video, write_base64, write_column

SIZE = 16


def read(path, rows, reader=None):
    out = torch.full((len(rows), 3, SIZE, SIZE), 3, dtype=torch.uint8)
    good = (reader or FrameReader(SIZE)).read(str(path), rows, out)
    return good.tolist(), out.numpy()


@pytest.fixture(params=["binary stream", "base64 stream", "base64 file", "large binary file"])
def arrow(request, tmp_path):
    path = tmp_path / "frames/v.arrow"
    if request.param == "binary stream":
        write_frames(path, video(5))
    elif request.param == "large binary file":
        write_column(path, "frame", [pa.array(video(5), pa.large_binary())], arrow_file=True)
    else:
        write_base64(path, video(5), arrow_file=request.param == "base64 file")
    return path


def test_rows_are_frames_in_every_kind_of_file(arrow):
    assert len(open_frames(str(arrow))) == 5
    good, out = read(arrow, [4, 0, 3, 3])
    assert good == [True] * 4
    for frame, row in zip(out, [4, 0, 3, 3], strict=True):
        assert (frame == grey(row)).all()


def test_rows_that_do_not_exist_are_grey_and_reported(arrow):
    good, out = read(arrow, [4, 5, -1, 10**12])
    assert good == [True, False, False, False]
    assert (out[1:] == GREY).all() and (out[0] == grey(4)).all()


def test_other_colour_modes_become_rgb(tmp_path):
    write_frames(tmp_path / "v.arrow", [jpeg(80, mode="L"), jpeg(80, mode="CMYK")])
    good, out = read(tmp_path / "v.arrow", [0, 1])
    assert good == [True, True]
    assert (out[0] == 80).all() and abs(out[1].astype(int) - 80).max() <= 1


def png():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 72)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_corrupt_rows_are_reported_and_never_half_a_picture(tmp_path):
    whole = noisy_jpeg(tmp_path / "x.jpg")
    rows = [whole, whole[: len(whole) // 2], whole[:300], b"", b"not a jpeg", png(), None, jpeg(0)]
    path = tmp_path / "v.arrow"
    write_frames(path, rows)
    good, out = read(path, range(8))
    assert good == [True, False, False, False, False, False, False, True]
    assert (out[1:7] == GREY).all()
    assert (out[7] == 0).all(), "an all-zero frame is a frame"
    write_base64(path, rows)
    assert read(path, range(8))[0] == good


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95, 0.99])
def test_a_jpeg_cut_anywhere_is_found(tmp_path, share):
    whole = noisy_jpeg(tmp_path / "x.jpg")
    write_frames(tmp_path / "v.arrow", [whole[: int(len(whole) * share)]])
    assert read(tmp_path / "v.arrow", [0])[0] == [False]


def test_text_that_is_not_base64_is_reported(tmp_path):
    text = base64.b64encode(jpeg(40)).decode()
    write_column(tmp_path / "v.arrow", "frame", [pa.array([text, text[:-2] + "!!", text[:50] + "\u00e9" + text[50:]])])
    assert read(tmp_path / "v.arrow", [0, 1, 2])[0] == [True, False, False]


def test_random_damage_gives_frames_or_reported_rows(tmp_path):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(noisy_jpeg(tmp_path / "x.jpg"), np.uint8)
    rows = []
    for _ in range(200):
        damaged = whole.copy()
        damaged[rng.integers(0, 700, 5)] = rng.integers(0, 256, 5)
        rows.append(damaged.tobytes())
    write_frames(tmp_path / "v.arrow", rows)
    good, out = read(tmp_path / "v.arrow", range(200))
    assert 0 < sum(good) < 200
    assert (out[~np.array(good)] == GREY).all()


def test_damaged_arrow_files_end_in_a_data_error_or_in_frames(tmp_path):
    write_base64(tmp_path / "v.arrow", video(3))
    whole = np.frombuffer((tmp_path / "v.arrow").read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    num_refused = 0
    for trial in range(300):
        damaged = whole.copy()
        damaged[rng.integers(0, 900, 3)] = rng.integers(0, 256, 3)
        path = tmp_path / f"{trial}.arrow"
        path.write_bytes(damaged.tobytes())
        try:
            rows = len(open_frames(str(path)))
        except DataError:
            num_refused += 1
        else:
            read(path, range(min(rows, 5)))
    assert 0 < num_refused < 300


def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    for module in (images, jpeg_header):
        monkeypatch.setattr(module, "MAX_PIXELS", 400)
    write_frames(tmp_path / "v.arrow", [jpeg(40, (20, 20)), jpeg(40, (21, 20))])
    assert read(tmp_path / "v.arrow", [0, 1])[0] == [True, False]
    with pytest.raises(ValueError, match="21 x 20 pixels, more than the 400 allowed"):
        decode_jpeg(jpeg(40, (21, 20)))


def bomb():
    """A small JPEG whose header says 65000 x 65000."""
    data = bytearray(jpeg(0))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65000, 65000)
    return bytes(data)


def test_a_decompression_bomb_is_a_bad_row(tmp_path):
    write_frames(tmp_path / "v.arrow", [bomb(), jpeg(40)])
    assert read(tmp_path / "v.arrow", [0, 1])[0] == [False, True]
    with pytest.raises(frames.DECODE_ERRORS, match="pixels"):
        open_frames(str(tmp_path / "v.arrow")).check_header(0)


def cut(path, tail):
    path.write_bytes(path.read_bytes()[:-tail])


def open_faults(tmp_path):
    write_base64(tmp_path / "cut.arrow", video(4))
    cut(tmp_path / "cut.arrow", 700)
    write_base64(tmp_path / "cut_file.arrow", video(4), arrow_file=True)
    cut(tmp_path / "cut_file.arrow", 100)
    write_column(tmp_path / "other.arrow", "image", [pa.array(video(1))])
    write_column(tmp_path / "numbers.arrow", "frame", [pa.array([1, 2])])
    (tmp_path / "empty.arrow").write_bytes(b"")
    (tmp_path / "text.arrow").write_text("This is no Arrow file, whatever its name says.")
    (tmp_path / "folder.arrow").mkdir()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cut", "cannot be read as Arrow.*write or copy it again"),
        ("cut_file", "cannot be read as Arrow"),
        ("empty", "cannot be read as Arrow"),
        ("text", "cannot be read as Arrow"),
        ("folder", "cannot be read as Arrow"),
        ("none", "cannot be read as Arrow.*No such file"),
        ("other", "no column `frame`, but image"),
        ("numbers", "must be base64 strings or JPEG bytes, not int64"),
    ],
)
def test_files_that_cannot_be_opened(tmp_path, name, words):
    open_faults(tmp_path)
    path = tmp_path / f"{name}.arrow"
    with pytest.raises(DataError, match=words) as caught:
        open_frames(str(path))
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=words):
        read(path, [0, 1])
    good, out = read(path, [0, 1], FrameReader(SIZE, absent=frozenset([str(path)])))
    assert good == [False, False] and (out == GREY).all()


def num_mapped(folder):
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return len({line.split()[-1] for line in maps if str(folder) in line})


def test_at_most_max_open_files_stay_mapped(tmp_path):
    for number in range(6):
        write_frames(tmp_path / f"{number}.arrow", [jpeg(number * 10)])
    reader = FrameReader(SIZE, max_open=2)
    for number in [0, 1, 2, 3, 4, 5, 0, 5, 5, 3]:
        good, out = read(tmp_path / f"{number}.arrow", [0], reader)
        assert good == [True] and abs(int(out[0, 0, 0, 0]) - number * 10) <= 1
        assert num_mapped(tmp_path) <= 2
    assert num_mapped(tmp_path) == 2


def _read_in_worker(reader, path, queue):
    queue.put([(good, int(out[0, 0, 0, 0])) for good, out in (read(path, [row], reader) for row in (0, 2))])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_data_worker_reads_with_the_reader_of_its_parent(tmp_path, method):
    """A forked worker inherits the open file, a spawned one gets a pickled reader without it."""
    path = tmp_path / "v.arrow"
    write_frames(path, video(3))
    reader = FrameReader(SIZE)
    read(path, [0], reader)
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_read_in_worker, args=(reader, str(path), queue))
    process.start()
    values = queue.get()
    process.join()
    assert values == [([True], grey(0)), ([True], grey(2))]


def test_a_pickled_reader_carries_no_frames(tmp_path):
    write_frames(tmp_path / "v.arrow", [os.urandom(100_000)])
    reader = FrameReader(SIZE)
    read(tmp_path / "v.arrow", [0], reader)
    assert len(pickle.dumps(reader)) < 1000


def test_frames_are_written_in_batches_and_appear_when_complete(tmp_path):
    path = tmp_path / "new/folder/v.arrow"
    write_frames(path, (jpeg(row % 50) for row in range(150)))
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all()
        assert table.schema == pa.schema([("frame", pa.binary())])
        assert [len(chunk) for chunk in table["frame"].chunks] == [64, 64, 22]

    def failing():
        yield jpeg(0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_frames(tmp_path / "half.arrow", failing())
    assert not (tmp_path / "half.arrow").exists()


def test_binary_is_a_quarter_smaller_than_base64(tmp_path):
    jpegs = [noisy_jpeg(tmp_path / "x.jpg")] * 20
    write_frames(tmp_path / "binary.arrow", jpegs)
    write_base64(tmp_path / "base64.arrow", jpegs)
    ratio = (tmp_path / "binary.arrow").stat().st_size / (tmp_path / "base64.arrow").stat().st_size
    assert 0.7 < ratio < 0.8


def test_the_file_used_longest_ago_is_closed_first(tmp_path):
    paths = [tmp_path / f"{number}.arrow" for number in range(3)]
    reader = FrameReader(SIZE, max_open=2)
    for path in paths:
        write_frames(path, video(1))
    for number in (0, 1, 0, 2):
        read(paths[number], [0], reader)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mapped = maps.read()
    assert [str(path) in mapped for path in paths] == [True, False, True]
