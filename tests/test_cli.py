"""The command line: every verb answers --help, words may stand anywhere, the fault of a user is code 2."""

from pathlib import Path

import pytest

from dst_dist import cli
from dst_dist.slurm import Job
from tests.launching import REPOSITORY

VERBS = (
    *("demo", "build", "frames", "features", "evaluate", "stream", "report", "export"),
    *("check", "show", "train", "recipe", "explain", "schema", "plan", "bench", "slurm"),
)


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


PATH_OPTIONS = {
    "out": ["demo", "--out", "PATH"],
    "trace": ["bench", "lora", "--trace", "PATH"],
    "run_folder": ["evaluate", "PATH"],
    "compare": ["evaluate", "x", "--compare", "blind=PATH"],
    "task": ["stream", "x", "--video", "v", "--task=PATH"],
    "report": ["report", "x", "--out", "PATH"],
    "to": ["export", "x", "--to", "PATH"],
}


@pytest.mark.parametrize("option", PATH_OPTIONS)
def test_home_and_variables_are_put_into_every_path(capsys, monkeypatch, option):
    monkeypatch.setenv("SCRATCH", "/scratch")
    words = PATH_OPTIONS[option]
    options = cli.parse([word.replace("PATH", "$SCRATCH/[1e3]: #") for word in words])
    assert Path("/scratch/[1e3]: #") in [*vars(options).values(), *(run for _, run in getattr(options, "compare", []))]
    with pytest.raises(SystemExit) as ended:
        cli.parse([word.replace("PATH", "$NOT_SET/x") for word in words])
    assert ended.value.code == 2 and "$NOT_SET/x: $NOT_SET is not set" in capsys.readouterr().err


def test_no_option_takes_a_path_in_another_way():
    files = [path for path in (REPOSITORY / "dst_dist").rglob("*.py") if "type=Path" in path.read_text()]
    assert files == []


def test_a_video_is_a_path_only_with_a_task(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("dst_dist.evaluate.show.stream_file", lambda run, video, *_: seen.append(video) or [])
    monkeypatch.setattr("dst_dist.evaluate.show.stream_video", lambda run, split, video, *_: seen.append(video) or [])
    monkeypatch.setattr("dst_dist.logs.set_up_logging", lambda is_main: None)
    monkeypatch.setenv("SCRATCH", "/scratch")
    for words in (["--task", "t.json"], []):
        assert cli.main(["stream", "x", "--video", "$SCRATCH/v", *words]) == 0
    assert seen == [Path("/scratch/v"), "$SCRATCH/v"]
    assert cli.main(["stream", "x", "--video", "$NOT_SET", "--task", "t.json"]) == 2
    assert "--video $NOT_SET: $NOT_SET is not set" in capsys.readouterr().err


def test_every_field_of_a_job_is_an_option_with_its_default():
    options = cli.parse(["slurm", "lora"])
    assert Job(**{name: getattr(options, name) for name in Job.__dataclass_fields__}) == Job()


def test_an_interrupt_from_the_keyboard_is_no_traceback(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dst_dist.build.frames.make_frames", interrupted)
    assert cli.main(["frames", "tea.mp4", "--out", "frames"]) == 1
    assert capsys.readouterr().err == "interrupted from the keyboard\n"
