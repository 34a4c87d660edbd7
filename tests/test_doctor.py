"""Findings and exit code of `dst-dist doctor`."""

import os
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from dst_dist import cli, doctor
from dst_dist.doctor import Finding, examine, exit_code
from tests.launching import free_port


class Alone:
    rank, num_processes = 0, 1

    def sum_over_processes(self, values):
        return values


Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def found(monkeypatch, tmp_path):
    """`found(about)` examines, and returns the findings about something."""
    monkeypatch.setattr(doctor, "start_processes", Alone)

    def examined(about):
        return [finding for finding in examine(tmp_path / "all" / "runs") if finding.about == about]

    return examined


@pytest.mark.parametrize("verdicts, code", [(["ok"], 0), (["ok", "slow"], 1), (["slow", "bad", "ok"], 2), ([], 0)])
def test_the_worst_decides(verdicts, code):
    assert exit_code([Finding("a", "b", verdict) for verdict in verdicts]) == code


def test_a_remedy_stands_below_its_finding():
    assert str(Finding("disk", "full", "bad", "make room")).splitlines() == [
        "x disk               full",
        f"{'':21}make room",
    ]


def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def hidden_gpu(monkeypatch):
    no_gpu(monkeypatch)
    monkeypatch.setattr(doctor, "listed_gpus", lambda: ["GPU 0: H100"])


def small_shared_memory(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(1, 1, 2**26))


def old_package(monkeypatch):
    monkeypatch.setattr(
        doctor, "version_faults", lambda: ("deepspeed 0.18.2 is installed, deepspeed>=0.19.4 is needed",)
    )


def no_peft(monkeypatch):
    intact = doctor.version
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "peft" else name)
    monkeypatch.setattr(doctor, "version", lambda name: intact(name) if name != "peft" else refuse_version(name))
    monkeypatch.setattr(doctor, "version_faults", lambda: ("peft is not installed, peft>=0.18 is needed",))


def refuse_version(name):
    raise PackageNotFoundError(name)


def no_compiler(monkeypatch):
    monkeypatch.setattr(doctor, "missing_tools", lambda: ["ninja"])


def no_links(monkeypatch):
    monkeypatch.setattr(doctor, "try_folder", lambda *_: doctor_lacks())


def doctor_lacks():
    doctor.Path("all/runs").mkdir(exist_ok=True)
    return ["cannot make symbolic links"]


def no_writing(monkeypatch):
    def refuse(*_):
        raise doctor.DstDistError("runs cannot be written")

    monkeypatch.setattr(doctor, "try_folder", refuse)


def deaf_processes(monkeypatch):
    class Deaf(Alone):
        num_processes = 2

    monkeypatch.setattr(doctor, "start_processes", Deaf)


def another_encoding(monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")


MACHINES = {
    "no GPU": (no_gpu, "GPU", "slow", "none"),
    "a GPU that torch does not see": (hidden_gpu, "GPU", "bad", "the driver has 1"),
    "a container": (small_shared_memory, "shared memory", "slow", "0.06 GiB free"),
    "an old package": (old_package, "packages", "bad", "deepspeed 0.18.2"),
    "a missing package": (no_peft, "packages", "bad", "peft is not installed"),
    "another encoding": (another_encoding, "names of files", "slow", "read as iso8859-1"),
    "no compiler": (no_compiler, "DeepSpeed offload", "ok", "lacks ninja"),
    "no symbolic links": (no_links, "run folders", "slow", "cannot make symbolic links"),
    "a folder that cannot be written": (no_writing, "run folders", "bad", "cannot be written"),
    "processes that do not reach each other": (deaf_processes, "processes", "bad", "a sum over 2 of them is 1"),
}


@pytest.mark.parametrize("change, about, verdict, words", MACHINES.values(), ids=MACHINES)
def test_what_a_machine_lacks_is_found(found, monkeypatch, tmp_path, change, about, verdict, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all/runs").mkdir(parents=True)
    change(monkeypatch)
    findings = [finding for finding in found(about) if words in finding.found]
    assert [finding.verdict for finding in findings] == [verdict], found(about)
    if verdict != "ok" and about != "run folders":
        assert findings[0].remedy


@pytest.mark.parametrize("token", [None, "hf_secret"])
def test_a_token_is_never_shown(found, monkeypatch, token):
    monkeypatch.setattr(doctor, "get_token", lambda: token)
    (finding,) = found("hub")
    assert ("a token is there" in finding.found) == (token is not None)
    assert "secret" not in str(finding)


def test_nothing_is_left_and_one_process_looks(found, tmp_path, monkeypatch):
    """Two would remove each other's folder."""
    assert found("run folders") and list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "1")
    assert not found("run folders")


def test_slurm_is_read_from_the_environment(found, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    assert found("Slurm")[0].found.startswith("job 77 on 4 nodes")


def test_two_launched_processes_reach_each_other(tmp_path):
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "dst_dist", "doctor", "--out", str(tmp_path / "runs")]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "ACCELERATE_USE_CPU": "true", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=200)[0] for process in started]
    assert {process.returncode for process in started} <= {0, 1}
    assert "2 of them reach each other" in outputs[0] and "not wanted by the launch file" in outputs[0]
    assert "reach" not in outputs[1]


def test_the_command_returns_its_code(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(doctor, "examine", lambda folder: iter([Finding("GPU", "none", "slow", "buy one")]))
    assert cli.main(["doctor", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"! GPU                none\n{'':21}buy one\n"
