"""`dst-dist slurm` without Slurm: the rendered script, errors, and calls of a script in place of sbatch."""

import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from dst_dist.cli import main
from dst_dist.recipes.loading import load_recipe
from dst_dist.train.__main__ import parse
from tests.launching import REPOSITORY

REFUSING = "echo 'sbatch: error: invalid partition specified: gpux' >&2; exit 1"
ACCEPTING = 'echo "$@" >>"{calls}"; echo "account $SBATCH_ACCOUNT" >>"{calls}"; echo "Submitted batch job 7"'


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Set a PATH without Slurm; the fixture is a function that writes `sbatch` there and returns its file of calls."""
    programs, calls = tmp_path / "programs", tmp_path / "calls"
    programs.mkdir()
    (programs / "bash").symlink_to(shutil.which("bash"))
    monkeypatch.setenv("PATH", str(programs))

    def put(script=ACCEPTING):
        stand_in = programs / "sbatch"
        stand_in.write_text("#!/usr/bin/env bash\n" + script.replace("{calls}", str(calls)))
        stand_in.chmod(0o755)
        return calls

    return put


def dry_run(capsys, *words):
    """Return what `--dry-run` prints."""
    assert main(["slurm", *words, "--dry-run"]) == 0
    return capsys.readouterr().out


def directives(script):
    """Return the #SBATCH options, as written."""
    return dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in script.splitlines()
        if line.startswith("#SBATCH")
    )


def test_options_become_sbatch_directives(capsys, tmp_path):
    script = dry_run(
        capsys,
        "lora",
        f"output_dir={tmp_path}/first",
        "--nodes",
        "4",
        "--processes-per-node",
        "2",
        "--time",
        "1-00:00:00",
        "--signal-s",
        "600",
    )
    assert directives(script) == {
        "job-name": f"'first of {tmp_path}'",
        "nodes": "4",
        "ntasks-per-node": "1",
        "cpus-per-task": "10",
        "gpus-per-node": "2",
        "time": "1-00:00:00",
        "signal": "B:USR1@600",
        "requeue": "",
        "propagate": "NONE",
        "dependency": "singleton",
        "open-mode": "append",
        "output": f"{tmp_path}/first/slurm.log",
    }
    assert "\nengine=zero2\nprocesses_per_node=2\n" in script


def test_a_cpu_engine_asks_for_no_gpu(capsys):
    options = directives(
        dry_run(capsys, "demo", "--engine", "cpu_ddp", "--processes-per-node", "2", "--cpus-per-node", "12")
    )
    assert "gpus-per-node" not in options and options["cpus-per-task"] == "12"


def test_words_are_quoted_so_that_bash_reads_what_was_typed(capsys, tmp_path):
    words = [
        "lora",
        f"output_dir={tmp_path}/50%",
        "data.train=[a b, 'it''s', \"q\"]",
        "data.root=/$HOME/`x` \\y *;&|<>() {{run}}",
    ]
    script = dry_run(capsys, *words)
    assignments = "\n".join(line for line in script.splitlines() if re.match(r"(run|words)=", line))
    shown = subprocess.run(
        ["bash", "-c", f'{assignments}\nprintf "%s\\0" "$run" "${{words[@]}}"'], capture_output=True, text=True
    )
    assert shown.stdout.split("\0")[:-1] == [f"{tmp_path}/50%", *words]
    assert directives(script)["output"] == f"{tmp_path}/50%%/slurm.log"


def test_the_job_and_the_training_mean_one_folder_wherever_home_is(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "a b"))
    for words, run in (
        (["demo", "output_dir=~/runs/1e3"], tmp_path / "runs/1e3"),
        (["demo", "output_dir=$SCRATCH/[x]: #"], tmp_path / "a b/[x]: #"),
        (["demo"], REPOSITORY / "runs/demo"),
    ):
        script = dry_run(capsys, *words)
        assert f"\nrun={shlex.quote(str(run))}\n" in script
        shown = shlex.split(re.search(r"^words=\((.*)\)$", script, re.MULTILINE)[1])
        assert shown == [*words, f"output_dir={run}"]


def test_the_script_is_bash(capsys):
    script = dry_run(capsys, "demo")
    assert not re.search(r"\{\{\w+\}\}", script)
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_allow_changed_goes_to_the_training(capsys, tmp_path):
    script = dry_run(
        capsys, "demo", "--allow-changed", "loss.lm", f"output_dir={tmp_path}/run", "--allow-changed", "dataset"
    )
    words = shlex.split(re.search(r"^words=\((.*)\)$", script, re.MULTILINE)[1])
    options = parse(words)
    assert options.allow_changed == ["loss.lm", "dataset"] and options.recipe == ["demo", f"output_dir={tmp_path}/run"]


def test_a_dry_run_writes_and_submits_nothing(capsys, tmp_path, sbatch):
    calls = sbatch()
    shown = dry_run(capsys, "demo", f"output_dir={tmp_path}/run")
    assert f"submitted by: bash slurm/with_site.sh sbatch {tmp_path}/run/train.sbatch" in shown
    assert not calls.exists() and not (tmp_path / "run").exists()


def test_the_script_is_written_to_the_run_folder_and_given_to_sbatch(capsys, tmp_path, sbatch):
    calls, run = sbatch(), tmp_path / "my run"
    shown = dry_run(capsys, "demo", f"output_dir={run}", "--engine", "cpu_ddp")
    assert main(["slurm", "demo", f"output_dir={run}", "--engine", "cpu_ddp"]) == 0
    assert capsys.readouterr().out == f"Submitted batch job 7; logs in {run}/slurm.log and node-*.log\n"
    assert calls.read_text() == f"{run}/train.sbatch\naccount \n"
    assert shown.startswith((run / "train.sbatch").read_text())


def test_sbatch_gets_the_settings_of_site_sh(tmp_path, monkeypatch, sbatch):
    for folder in ("slurm", "launch"):
        shutil.copytree(REPOSITORY / folder, tmp_path / "site" / folder)
    with open(tmp_path / "site/slurm/site.sh", "a") as site:
        site.write("export SBATCH_ACCOUNT=vision\n")
    monkeypatch.chdir(tmp_path / "site")
    calls = sbatch()
    assert main(["slurm", "demo"]) == 0
    assert calls.read_text() == f"{tmp_path}/site/runs/demo/train.sbatch\naccount vision\n"


def test_faults_of_the_recipe_are_errors_before_submitting(capsys, tmp_path, sbatch):
    calls = sbatch()
    assert main(["slurm", "demo", f"output_dir={tmp_path}/run", "optim.learning_rat=1", "train.max_steps=0"]) == 2
    message = capsys.readouterr().err
    assert "did you mean optim.learning_rate?" in message and "train.max_steps" in message
    assert not calls.exists() and not (tmp_path / "run").exists()


def test_the_folder_of_another_run_is_an_error(capsys, tmp_path, sbatch):
    calls, words = sbatch(), ["demo", f"output_dir={tmp_path}"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(load_recipe([*words, "seed=3"]).model_dump(mode="json")))
    assert main(["slurm", *words]) == 2
    message = capsys.readouterr().err
    assert "seed was 3 and is 0" in message and "choose another output_dir" in message and not calls.exists()
    assert main(["slurm", *words, "seed=3", "checkpoint.every_steps=7"]) == 0, "the same run goes on"


def test_a_changed_key_is_an_error_unless_allowed(capsys, tmp_path, sbatch):
    calls, words = sbatch(), ["demo", f"output_dir={tmp_path}"]
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(load_recipe([*words, "seed=3", "loss.lm=2"]).model_dump(mode="json"))
    )
    (tmp_path / "checkpoints/step-00000002").mkdir(parents=True)
    assert main(["slurm", *words, "--allow-changed", "seed"]) == 2
    message = capsys.readouterr().err
    assert (
        "loss.lm was 2.0" in message
        and "or add --allow-changed loss.lm" in message
        and "seed" not in message
        and not calls.exists()
    )
    allowed = ["--allow-changed", "seed", "--allow-changed", "loss.lm"]
    assert main(["slurm", *words, *allowed]) == 0 and calls.exists()
    # A finished run can continue as well. Without a checkpoint it would be trained anew.
    (tmp_path / "final").mkdir()
    assert main(["slurm", *words, *allowed]) == 0
    (tmp_path / "checkpoints/step-00000002").rmdir()
    assert main(["slurm", *words, *allowed]) == 2
    assert "choose another output_dir, or move it" in capsys.readouterr().err


def test_a_model_inside_output_dir_is_an_error(capsys, tmp_path, sbatch):
    calls = sbatch()
    (tmp_path / "final").mkdir()
    assert main(["slurm", "demo", f"output_dir={tmp_path}", f"model.name_or_path={tmp_path}/final"]) == 2
    assert "lies inside output_dir" in capsys.readouterr().err and not calls.exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--engine", "zero3"], "no launch/zero3.yaml here"),
        (["--time", "5"], "--time 5 is not well above the 300 s of --signal-s"),
        (["--time", "6:00"], "more --time or a smaller --signal-s"),
        (["--time", "0-2:59:01", "--signal-s", "10740"], "--time 0-2:59:01 is not well above"),
    ],
)
def test_an_impossible_job_is_an_error(capsys, tmp_path, sbatch, words, message):
    calls = sbatch()
    assert main(["slurm", "demo", f"output_dir={tmp_path}/run", *words]) == 2
    assert message in capsys.readouterr().err and not calls.exists()


@pytest.mark.parametrize(
    "words",
    [["--time", "7"], ["--time", "0"], ["--time", "UNLIMITED"], ["--time", "1-0", "--signal-s", "65535"]],
    ids=lambda words: words[1],
)
def test_other_times_are_left_to_sbatch(tmp_path, sbatch, words):
    calls = sbatch()
    assert main(["slurm", "demo", f"output_dir={tmp_path}/run", *words]) == 0 and calls.exists()


def test_another_current_folder_is_an_error(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["slurm", "demo"]) == 2
    assert "no slurm/train.sbatch, slurm/site.sh, slurm/with_site.sh, launch/zero2.yaml here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script, message",
    [(REFUSING, "sbatch: error: invalid partition specified: gpux"), (None, "sbatch: not found")],
    ids=("refusing", "missing"),
)
def test_sbatchs_message_is_passed_on(capsys, tmp_path, sbatch, script, message):
    if script:
        sbatch(script)
    assert main(["slurm", "demo", f"output_dir={tmp_path}/run"]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_option_is_an_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["slurm", "demo", "--nodez", "2"])
    assert ended.value.code == 2 and "--nodez" in capsys.readouterr().err
