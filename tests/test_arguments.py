"""Numbers on the command line: every option of every verb refuses what cannot be meant, before anything is loaded."""

import argparse

import pytest

from dst_dist import cli
from dst_dist.arguments import between, gpu_gib, whole
from dst_dist.paths import path_argument

NO_NUMBERS = (None, path_argument, cli._named_run)


def numeric_options() -> dict[str, argparse.Action]:
    """Return the options that take a number, by verb and name, from the command line's own parser."""
    parsers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            argparse.ArgumentParser,
            "parse_known_args",
            lambda parser, _: (parsers.append(parser), (argparse.Namespace(), []))[1],
        )
        cli.parse([])
    (verbs,) = (action for action in parsers[0]._actions if action.choices)
    options = ((verb, option) for verb, command in verbs.choices.items() for option in command._actions)
    return {f"{verb} {option.dest}": option for verb, option in options if option.type not in NO_NUMBERS}


OPTIONS = numeric_options()


def test_every_number_is_looked_at():
    """A new option is found: these are known, and must be among them."""
    assert {"plan gpu", "plan processes", "bench steps", "frames fps", "slurm nodes", "demo seed"} <= set(OPTIONS)


@pytest.mark.parametrize("word", ["-1", "nan", "inf", "1e400", "many", ""])
@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_what_is_no_such_number_is_refused(option, word):
    with pytest.raises(argparse.ArgumentTypeError, match="say a"):
        option.type(word)


@pytest.mark.parametrize("words", [["bench", "demo", "--steps", "0"], ["plan", "demo", "--gpu", "80XB"]])
def test_the_code_is_2_and_the_option_is_named(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and f"argument {words[2]}: {words[3]}: say a" in error and "Traceback" not in error


@pytest.mark.parametrize("word", ["80", "80GB", "80 GB", "80gib", "80G", "80.0"])
def test_a_gpu_is_named_as_its_maker_does(word):
    assert gpu_gib(word) == 80


@pytest.mark.parametrize("word, gib", [("80000MB", 78.125), ("512 MiB", 0.5), ("0.5TB", 512), ("1t", 1024)])
def test_a_gpu_may_have_another_unit(word, gib):
    assert gpu_gib(word) == gib


@pytest.mark.parametrize("word", ["80XB", "80KB", "GB", "0GB"])
def test_a_fault_of_a_gpu_names_the_units(word):
    with pytest.raises(argparse.ArgumentTypeError, match=f"{word}: say a number above 0, in MB, GB or TB"):
        gpu_gib(word)


def test_a_whole_number_may_begin_at_0():
    assert whole(0)("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="0: say a whole number from 1"):
        whole(1)("0")


def test_a_number_between_two_may_be_either():
    assert [between(0.001, 1000)(word) for word in ("0.001", "2", "1e3")] == [0.001, 2.0, 1000.0]
    for word in ("9e-4", "1001"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{word}: say a number from 0.001 to 1000"):
            between(0.001, 1000)(word)
