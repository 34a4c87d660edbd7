"""A list read value by value, whatever the pieces in which its text comes."""

import io
import json
import tracemalloc

import pytest

from dst_dist.data import json_list
from dst_dist.data.json_list import stream_list

LISTS = [
    "[]",
    " [ ] \n",
    "[1]",
    "[12345, -0.5e3, 7]",
    '[{"a": [1, "x]"]}, "b,\\"", null,\n true , NaN]',
    '[[], [[]], {"é": "☕"}]',
]
BROKEN = ["[", "[1", "[1,", "[1,]", "[1 2]", "[1] 2", "[,]", '["a', '[{"a": 1}, {"b": ]', "[1}", "", "{}", "[tru]"]


@pytest.fixture(params=[1, 2, 3, 1 << 20])
def chunk(request, monkeypatch):
    monkeypatch.setattr(json_list, "CHUNK", request.param)


@pytest.mark.parametrize("text", LISTS)
def test_the_values_are_those_of_the_whole_text(chunk, text):
    assert repr(list(stream_list(io.StringIO(text)))) == repr(json.loads(text))


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_list_is_refused(chunk, text):
    with pytest.raises(ValueError):  # noqa: PT011, the caller makes the message
        list(stream_list(io.StringIO(text)))


def test_nesting_without_end_is_refused():
    with pytest.raises(RecursionError):
        list(stream_list(io.StringIO("[" * 100_000)))


def test_one_value_at_a_time_is_in_memory(tmp_path):
    file = tmp_path / "long.json"
    value = json.dumps({"turns": ["word " * 20] * 50})
    with file.open("w") as written:
        written.write("[" + ", ".join([value] * 4000) + "]")
    tracemalloc.start()
    with file.open() as text:
        number = sum(1 for _ in stream_list(text))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert number == 4000
    assert peak < 6 * json_list.CHUNK < file.stat().st_size / 3
