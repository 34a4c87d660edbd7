"""Starts that may write their status, and the file: starts at the same time, and processes of one start."""

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
print(1, flush=True)
input()
run.write_status(0, "done")
"""


class Holder:
    """A start in another process that holds a run folder."""

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
    assert not (tmp_path / "run/status.json").exists(), "only the first run may write it"
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
    assert not place.exists(), "it belongs to the first one, which still runs"
    holder.finish()
    assert code_in(place) == 0


def test_a_refused_start_writes_a_status_file_of_its_own(tmp_path, hold):
    (tmp_path / "own.json").write_text('{"code": 0}')
    holder = hold(tmp_path / "run")
    assert train(["demo", f"output_dir={tmp_path}/run", "--status-file", f"{tmp_path}/own.json"]) == 2
    assert code_in(tmp_path / "own.json") == 2
    assert not (tmp_path / "run/status.json").exists()
    holder.finish()
    assert (code_in(tmp_path / "own.json"), code_in(tmp_path / "run/status.json")) == (2, 0)


def test_a_start_without_a_folder_replaces_an_earlier_status(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "own.json").write_text('{"code": 0}')
    assert train(["demo", f"output_dir={tmp_path}/file/run", "--status-file", f"{tmp_path}/own.json"]) == 2
    assert code_in(tmp_path / "own.json") == 2


def test_a_good_end_replaces_the_status_of_a_refused_start(tmp_path, hold):
    """With a mistyped recipe nobody knows that the folder, and so the status file, is in use."""
    holder = hold(tmp_path / "run", tmp_path / "status.json")
    assert train(["dmeo", "--status-file", f"{tmp_path}/status.json"]) == 2
    assert code_in(tmp_path / "status.json") == 2
    holder.finish()
    assert code_in(tmp_path / "status.json") == 0


@pytest.mark.parametrize("file", ["run/status.json", "status.json"])
def test_the_first_failure_stays(tmp_path, file):
    for code, reason in ((2, "the cause"), (1, "connection closed by peer")):
        run = HeldFolder(tmp_path / "run", tmp_path / file)
        run.may_write_status = True
        run.write_status(code, reason)
    assert json.loads((tmp_path / file).read_text())["reason"] == "the cause"
    assert [path.name for path in (tmp_path / file).parent.iterdir()] == ["status.json"]


@pytest.mark.parametrize("file", ["run/status.json", "status.json"])
def test_a_process_that_has_not_joined_the_main_one_writes_nothing(tmp_path, monkeypatch, file):
    """The main process may have been refused."""
    monkeypatch.setenv("RANK", "1")
    assert train(["demo", "seed=-1", f"output_dir={tmp_path}/run", "--status-file", f"{tmp_path}/{file}"]) == 2
    assert not list(tmp_path.iterdir())
