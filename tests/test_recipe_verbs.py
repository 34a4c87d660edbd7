"""The verbs that take a recipe print what the functions behind them return."""

import json

import pytest

from dst_dist import cli
from dst_dist.recipes import keys


@pytest.mark.parametrize(
    "words, text",
    [
        (["recipe", "lora"], keys.copy_of("lora")),
        (["explain", "optim"], keys.explain("optim") + "\n"),
        (["schema"], keys.schema()),
    ],
)
def test_a_verb_prints_its_text_and_nothing_else(capsys, words, text):
    assert cli.main(words) == 0
    assert capsys.readouterr() == (text, "")


def test_the_printed_schema_is_json(capsys):
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["additionalProperties"] is False


@pytest.mark.parametrize("words", [["recipe", "lara"], ["explain", "train.max_tokns"]])
def test_a_name_that_is_not_there_is_code_2(capsys, words):
    assert cli.main(words) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("ConfigError: ") and error.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_numbers_of_processes_are_at_least_one(capsys, number):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "lora", "--processes", number])
    assert ended.value.code == 2 and "--processes" in capsys.readouterr().err
