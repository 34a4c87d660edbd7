"""The HTML file of a report."""

import re

import pytest

from dst_dist.errors import ConfigError
from dst_dist.report.page import write_report
from tests.report.make_run import trained


def test_out_names_the_file_to_write(tmp_path):
    out = tmp_path / "deep" / "page.html"
    assert write_report(trained(tmp_path / "run"), out) == out and out.is_file()
    assert not list(out.parent.glob("*.tmp")) and not (tmp_path / "run" / "evaluation").exists()


def test_a_folder_cannot_be_the_file_to_write(tmp_path):
    with pytest.raises(ConfigError, match="a folder; name the HTML file"):
        write_report(trained(tmp_path / "run"), tmp_path)


def test_the_file_refers_to_nothing_outside_itself(page):
    text = page.read_text()
    assert re.findall(r"https?://[^\"'\s)]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<link|@import|<iframe|<script[^>]+src|url\((?!#)", text)
    assert "default-src 'none'" in text
