"""`dst-dist train`: the launch line that fits the machine, and the training's own exit code."""

import shlex

import pytest

from dst_dist import cli, start
from dst_dist.errors import ConfigError
from dst_dist.start import Launch, command_of
from tests.launching import REPOSITORY, TINY_RUN

MACHINES = {
    "no GPU": (0, Launch(), "cpu_zero2", 2),
    "one GPU": (1, Launch(), "ddp", 1),
    "two GPUs": (2, Launch(), "zero2", 2),
    "eight GPUs": (8, Launch(), "zero2", 8),
    "eight GPUs, another engine": (8, Launch("fsdp"), "fsdp", 8),
    "eight GPUs, fewer processes": (8, Launch(processes=3), "zero2", 3),
    "the CPU of a machine with GPUs": (8, Launch("cpu_ddp"), "cpu_ddp", 2),
    "all named": (0, Launch("hsdp", 4), "hsdp", 4),
    "two nodes": (8, Launch(nodes=2, node_rank=1, main_address="node0"), "zero2", 16),
}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("num_gpus, launch, engine, processes", MACHINES.values(), ids=MACHINES)
def test_the_line_fits_the_machine(monkeypatch, num_gpus, launch, engine, processes):
    monkeypatch.setattr(start, "num_gpus", lambda: num_gpus)
    line = shlex.join(command_of(launch))
    assert line.startswith(f"accelerate launch --config_file launch/{engine}.yaml --num_processes {processes} ")
    assert line.endswith(" -m dst_dist.train")
    several = "--num_machines 2 --machine_rank 1 --main_process_ip node0 --main_process_port 29500"
    assert (several in line) == (launch.nodes > 1)


BAD = {
    "unknown engine": (Launch("zero3", 1), "no launch/zero3.yaml here"),
    "no rank": (Launch("zero2", 4, nodes=2, main_address="a"), "needs --node-rank, from 0 to 1"),
    "rank too large": (Launch("zero2", 4, 2, 2, "a"), "needs --node-rank, from 0 to 1"),
    "no address": (Launch("zero2", 4, 2, 1), "needs --main-address"),
    "uneven": (Launch("zero2", 5, 2, 1, "a"), "--processes 5 over --nodes 2"),
}


@pytest.mark.parametrize("launch, message", BAD.values(), ids=BAD)
def test_a_launch_that_makes_no_sense_is_refused(launch, message):
    with pytest.raises(ConfigError, match=message):
        command_of(launch)


def test_all_faults_are_named_at_once():
    with pytest.raises(ConfigError) as error:
        command_of(Launch("zero3", 5, nodes=2))
    assert [word in str(error.value) for word in ("zero3", "--processes 5", "--node-rank", "--main-address")] == [
        True
    ] * 4


def test_elsewhere_than_in_the_repository_it_says_so(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="run it from the repository's root"):
        command_of(Launch("cpu_ddp", 1))


def train(*words):
    return cli.main(["train", "--engine", "cpu_ddp", "--processes", "1", *words])


def test_the_training_s_own_code_is_returned(demo_words, tmp_path, capfd):
    """A training that is asked to stop, and goes on to its end; and one that is refused."""
    words = (*TINY_RUN, *demo_words, "train.max_steps=1", f"output_dir={tmp_path}/run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/STOP").touch()
    assert train(*words) == 85
    assert "accelerate launch --config_file launch/cpu_ddp.yaml --num_processes 1 " in capfd.readouterr().out
    assert train(*words) == 0
    assert train(*words, "data.root=/nowhere", f"output_dir={tmp_path}/other") == 2


def test_a_mistyped_recipe_launches_nothing(monkeypatch, capsys):
    monkeypatch.setattr(start, "_run", None)
    assert train("demo", "train.max_stps=1") == 2
    assert "did you mean train.max_steps?" in capsys.readouterr().err


def test_the_code_of_an_earlier_start_is_not_believed(tmp_path, monkeypatch):
    (tmp_path / "status.json").write_text('{"code": 85}')
    monkeypatch.setattr(start, "_run", lambda command: 1)
    assert train("demo", f"output_dir={tmp_path}") == 1
