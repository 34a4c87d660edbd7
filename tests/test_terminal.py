"""Text that the terminal's encoding lacks, as under the locale de_DE.ISO-8859-1."""

import io
import sys

import pytest

from dst_dist import cli
from dst_dist.terminal import print_any_text
from dst_dist.train import __main__ as train


@pytest.mark.parametrize("main", [cli.main, train.main], ids=["dst-dist", "training"])
def test_any_text_can_be_printed(main, monkeypatch, tmp_path):
    terminal = io.TextIOWrapper(io.BytesIO(), "latin-1", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    words = [f"output_dir={tmp_path}/run", "model.name_or_path=Größe-好"]
    assert main([*(["check"] if main is cli.main else []), "demo", *words]) == 2
    print("Größe 好")
    printed = terminal.buffer.getvalue().decode("latin-1")
    assert "Größe \\u597d" in printed and "Größe-\\u597d" in printed and "Traceback" not in printed


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["closed", "replaced"])
def test_a_stream_without_an_encoding_stays(monkeypatch, stream):
    """Python has None for a closed one; notebooks and recorders put their own in place."""
    monkeypatch.setattr(sys, "stdout", stream)
    print_any_text()
    assert sys.stdout is stream
