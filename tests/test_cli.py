"""The command line: every verb answers --help, words may stand anywhere, the fault of a user is code 2."""

import pytest

from dst_dist import cli
from dst_dist.slurm import Job

VERBS = ("demo", "build", "frames", "plan", "bench", "features", "evaluate", "stream", "report", "slurm")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_help(capsys, verb):
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    assert f"usage: dst-dist {verb}" in capsys.readouterr().out


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {verb} " in shown for verb in VERBS)


def test_recipe_words_stand_before_and_after_options():
    options = cli.parse(["slurm", "lora", "--nodes", "2", "data.root=/data", "--dry-run", "seed=3"])
    assert options.words == ["lora", "data.root=/data", "seed=3"]
    assert (options.nodes, options.dry_run) == (2, True)


@pytest.mark.parametrize(
    "words", [[], ["nothing"], ["evaluate"], ["evaluate", "x", "--splt=val"], ["demo", "x"], ["report", "x", "y"]]
)
def test_a_wrong_command_line_is_code_2(capsys, words):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: dst-dist" in capsys.readouterr().err


def test_a_fault_is_code_2_and_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ConfigError: ") and error.count("\n") == 1


def test_a_run_to_compare_with_needs_a_name():
    assert cli.parse(["evaluate", "run", "--compare", "blind=runs/blind"]).compare[0][0] == "blind"
    with pytest.raises(SystemExit):
        cli.parse(["evaluate", "run", "--compare", "runs/blind"])


def test_every_field_of_a_job_is_an_option_with_its_default():
    options = cli.parse(["slurm", "lora"])
    assert Job(**{name: getattr(options, name) for name in Job.__dataclass_fields__}) == Job()
