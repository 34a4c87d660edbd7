"""Who may write how a start ended, and where: starts beside one another, and processes of one start."""

import json
import subprocess
import sys

import pytest

from dst_dist.errors import ConfigError
from dst_dist.train.held_folder import HeldFolder
from tests.train.in_process import train

HOLD = """
import sys
from pathlib import Path
from dst_dist.train.held_folder import HeldFolder
run = HeldFolder(*map(Path, sys.argv[1:]))
run.lock()
run.forget_status()
print(1, flush=True)
input()
run.write_status(0, "done")
"""


class Holder:
    """Another process's start that holds a run folder."""

    def __init__(self, *paths):
        command = [sys.executable, "-c", HOLD, *map(str, paths)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def finish(self):
        self.process.communicate("\n")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def hold():
    holders = []

    def start(*paths):
        holders.append(Holder(*paths))
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()


def code_in(file):
    return json.loads(file.read_text())["code"]


def test_a_second_run_in_one_folder_is_refused(tmp_path, hold):
    holder = hold(tmp_path / "run")
    run = HeldFolder(tmp_path / "run")
    with pytest.raises(ConfigError, match=f"in use by process {holder.process.pid} on [^ ]+; choose"):
        run.lock()
    run.write_status(2, "refused")
    assert not (tmp_path / "run/status.json").exists(), "the status is the first run's to write"
    holder.kill()
    run.lock()


@pytest.mark.parametrize("file", ["status.json", "run/status.json", "run/../status.json", "link.json"])
def test_the_same_command_twice_leaves_the_status_to_the_first(tmp_path, hold, monkeypatch, capsys, file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.json").symlink_to("status.json")
    place = (tmp_path / file).resolve()
    holder = hold("run", place)
    assert train(["demo", "output_dir=run", "--status-file", file]) == 2
    assert "output_dir run is in use by process" in capsys.readouterr().err
    assert not place.exists(), "it is the first one's, which still runs"
    holder.finish()
    assert code_in(place) == 0


def test_a_refused_start_says_so_in_a_status_file_of_its_own(tmp_path, hold):
    (tmp_path / "own.json").write_text('{"code": 0}')
    holder = hold(tmp_path / "run")
    assert train(["demo", f"output_dir={tmp_path}/run", "--status-file", f"{tmp_path}/own.json"]) == 2
    assert code_in(tmp_path / "own.json") == 2
    assert not (tmp_path / "run/status.json").exists()
    holder.finish()
    assert (code_in(tmp_path / "own.json"), code_in(tmp_path / "run/status.json")) == (2, 0)


def test_a_start_without_a_folder_replaces_what_an_earlier_one_said(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "own.json").write_text('{"code": 0}')
    assert train(["demo", f"output_dir={tmp_path}/file/run", "--status-file", f"{tmp_path}/own.json"]) == 2
    assert code_in(tmp_path / "own.json") == 2


def test_a_good_end_is_said_in_spite_of_a_refused_start(tmp_path, hold):
    """A mistyped recipe does not tell that the folder, and so the status file, is in use."""
    holder = hold(tmp_path / "run", tmp_path / "status.json")
    assert train(["dmeo", "--status-file", f"{tmp_path}/status.json"]) == 2
    assert code_in(tmp_path / "status.json") == 2
    holder.finish()
    assert code_in(tmp_path / "status.json") == 0


@pytest.mark.parametrize("file", ["run/status.json", "status.json"])
def test_the_first_process_that_fails_is_believed(tmp_path, file):
    for code, reason in ((2, "the cause"), (1, "connection closed by peer")):
        run = HeldFolder(tmp_path / "run", tmp_path / file)
        run.is_held = True
        run.write_status(code, reason)
    assert json.loads((tmp_path / file).read_text())["reason"] == "the cause"
    assert [path.name for path in (tmp_path / file).parent.iterdir()] == ["status.json"]


@pytest.mark.parametrize("file", ["run/status.json", "status.json"])
def test_a_process_that_has_not_met_its_main_one_says_nothing(tmp_path, monkeypatch, file):
    """The main process may have been refused."""
    monkeypatch.setenv("RANK", "1")
    assert train(["demo", "seed=-1", f"output_dir={tmp_path}/run", "--status-file", f"{tmp_path}/{file}"]) == 2
    assert not list(tmp_path.iterdir())
