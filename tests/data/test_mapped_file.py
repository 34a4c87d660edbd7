"""Arrays come back from a mapped file, and a damaged or unfinished file is not believed."""

import numpy as np
import pytest

from dst_dist.data.mapped_file import read_mapped, write_mapped

HEADER = {"note": "☕", "rows": [1, [2, None]]}
ARRAYS = {
    "bytes": np.arange(7, dtype=np.uint8),
    "table": np.array([(1, -2), (3, 4)], dtype=[("clip", np.int32), ("tokens", np.int32)]),
    "names": np.array([b"a/b.arrow", b"c"], np.bytes_),
    "pairs": np.arange(6).reshape(3, 2),
    "none": np.empty((0, 2), np.int64),
}


@pytest.fixture
def file(tmp_path):
    write_mapped(tmp_path / "folder/x.clips", HEADER, ARRAYS)
    return tmp_path / "folder/x.clips"


@pytest.mark.parametrize("verify", [True, False])
def test_header_and_arrays_come_back_as_they_went_in(file, verify):
    header, arrays = read_mapped(file, verify)
    assert header == HEADER
    assert list(arrays) == list(ARRAYS)
    for name, values in ARRAYS.items():
        assert arrays[name].dtype == values.dtype and arrays[name].tolist() == values.tolist(), name
        assert not arrays[name].flags.writeable and not arrays[name].flags.owndata


def test_a_file_without_arrays(tmp_path):
    write_mapped(tmp_path / "x", HEADER, {})
    assert read_mapped(tmp_path / "x") == (HEADER, {})


def test_no_file(tmp_path):
    assert read_mapped(tmp_path / "x") is None
    assert read_mapped(tmp_path) is None


def test_any_changed_byte_is_seen(file):
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert read_mapped(file) is None, place


def test_a_file_cut_off_or_longer_is_seen_also_without_its_digest(file):
    content = file.read_bytes()
    for length in range(0, len(content), 5):
        file.write_bytes(content[:length])
        assert read_mapped(file) is None and read_mapped(file, verify=False) is None, length
    file.write_bytes(content + b"\0")
    assert read_mapped(file) is None and read_mapped(file, verify=False) is None
