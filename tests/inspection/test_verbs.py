"""The commands of this room."""

import json

from dst_dist import cli
from dst_dist.inspection.check import check_data


def test_the_command_prints_it_and_its_faults_are_code_2(words, capsys):
    assert cli.main(["show", *words, "--split", "val"]) == 0
    assert capsys.readouterr().out.count("trained") > 1
    assert cli.main(["show", *words, "--clip", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("ConfigError: --clip nothing")


def test_the_command_writes_it(words, tmp_path, capsys):
    assert cli.main(["show", *words, "--html", str(tmp_path / "clip.html")]) == 0
    assert capsys.readouterr().out == f"written to {tmp_path}/clip.html\n"
    assert (tmp_path / "clip.html").read_text().startswith("<!doctype html>")


def test_json_is_all_that_is_printed(words, capsys):
    assert cli.main(["check", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == check_data(words)
