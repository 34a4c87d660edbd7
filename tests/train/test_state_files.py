"""Stretches of flattened tensors: written to safetensors files, found again by name and offset."""

import gc
import io
import itertools
import os

import pytest
import torch
from safetensors.torch import load_file

from dst_dist.errors import CheckpointError
from dst_dist.files import sha256
from dst_dist.train import state_files
from dst_dist.train.state_files import Stretch, StretchReader, write_flushed, write_stretches


def test_a_file_is_read_by_the_safetensors_library(tmp_path):
    file = tmp_path / "a.safetensors"
    weight, random = torch.randn(7), torch.get_rng_state()
    digest = write_stretches(file, [Stretch("layer.weight", 4, weight), Stretch("random", 0, random)])
    found = load_file(file)
    assert found.keys() == {"layer.weight@4", "random@0"}
    assert torch.equal(found["layer.weight@4"], weight) and torch.equal(found["random@0"], random)
    assert digest == sha256(file)


def test_stretches_of_several_files_are_joined(tmp_path):
    whole = torch.randn(10)
    files = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    write_stretches(files[0], [Stretch("w", 6, whole[6:]), Stretch("w", 0, whole[:2])])
    write_stretches(files[1], [Stretch("w", 2, whole[2:6]), Stretch("empty", 0, whole[:0])])
    reader = StretchReader(files)
    for start, stop in itertools.combinations(range(11), 2):
        out = torch.empty(stop - start)
        reader.fill("w", start, out)
        assert torch.equal(out, whole[start:stop])
    with pytest.raises(CheckpointError, match="4 of the 6 entries wanted of w"):
        StretchReader(files[1:]).fill("w", 0, torch.empty(6))


def test_a_file_larger_than_a_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("dst_dist.train.state_files.CHUNK_BYTES", 64)
    whole = torch.randn(1000)
    assert write_stretches(tmp_path / "a.safetensors", [Stretch("w", 0, whole)]) == sha256(tmp_path / "a.safetensors")
    assert torch.equal(load_file(tmp_path / "a.safetensors")["w@0"], whole)


def test_a_process_forked_meanwhile_writes_nothing(tmp_path):
    """A data worker is forked while a thread writes: it inherits the open file, and closes it at its end."""
    path = tmp_path / "a"

    def pieces():
        yield b"head "
        child = os.fork()
        if child == 0:
            for thing in gc.get_objects():
                if isinstance(thing, io.IOBase) and getattr(thing, "name", None) == str(path):
                    thing.close()
            os._exit(0)
        os.waitpid(child, 0)
        yield b"tail"

    digest = write_flushed(path, pieces())
    assert path.read_bytes() == b"head tail"
    assert digest == sha256(path)


def test_what_the_system_did_not_write_at_once_is_written_after(tmp_path, monkeypatch):
    class Short(io.FileIO):
        def write(self, data):
            return super().write(data[:3])

    monkeypatch.setattr(state_files, "open", lambda path, *_, **__: Short(path, "wb"), raising=False)
    digest = write_flushed(tmp_path / "a", [b"", b"0123456789", memoryview(b"abcde")])
    assert (tmp_path / "a").read_bytes() == b"0123456789abcde" and digest == sha256(tmp_path / "a")
