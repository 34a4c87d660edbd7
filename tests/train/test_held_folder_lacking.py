"""A run folder on a file system that lacks something: what can be done without is said, the rest stops the start."""

import contextlib
import os
import subprocess

import pytest

from dst_dist.train.held_folder import HeldFolder
from tests.refusing import LACKS, REFUSES, refused
from tests.train.in_process import train
from tests.train.runs import cut_words, status_of

pytestmark = pytest.mark.usefixtures("own_logging_of_test")


@pytest.mark.parametrize("call, number, words", LACKS.values(), ids=LACKS)
def test_what_a_run_does_without_is_known_when_its_folder_is_opened(tmp_path, call, number, words):
    run = HeldFolder(tmp_path / "run")
    with refused(call, number, tmp_path):
        run.lock()
        assert run.open({"seed": 1}) is None
        run.write_config("seed: 1\n")
        run.write_status(0, "done")
    (clause,) = run.lacking
    assert clause.startswith(f"cannot {words} ({os.strerror(number)}): ")
    assert status_of(tmp_path / "run")["code"] == 0


@pytest.mark.parametrize("call, number, says", REFUSES.values(), ids=REFUSES)
def test_what_a_run_cannot_do_without_stops_it_before_anything_is_loaded(tmp_path, capsys, call, number, says):
    (tmp_path / "run").mkdir()
    words = ["demo", f"output_dir={tmp_path}/run", "--status-file", f"{tmp_path}/status.json"]
    with refused(call, number, tmp_path / "run"):
        assert train(words) == 2
    assert "Traceback" not in (error := capsys.readouterr().err)
    assert "output_dir: " in error and says in error and says in status_of(tmp_path)["reason"]
    assert not [path for path in (tmp_path / "run").iterdir() if path.name != ".lock"]


def test_a_status_file_that_cannot_be_written_stops_the_start(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert train(["demo", f"output_dir={tmp_path}/run", "--status-file", f"{tmp_path}/file/status.json"]) == 2
    assert f"--status-file: {tmp_path}/file cannot be written: " in capsys.readouterr().err


def test_a_run_that_cannot_be_moved_aside_is_an_error(tmp_path, capsys):
    """A folder that is mounted cannot be renamed."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 5\n")
    run = HeldFolder(tmp_path / "run")
    run.lock()
    with refused("rename folder", 16, tmp_path), pytest.raises(Exception, match="cannot be moved to .*busy.*choose an"):
        run.open({"seed": 1})


@pytest.fixture(scope="module")
def words(demo_words):
    return cut_words(demo_words, "lora", "train.max_steps=3", "eval.every_steps=1", "eval.max_clips=1")


@pytest.fixture(scope="module")
def ordinary(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ordinary") / "run"
    assert train([*words, f"output_dir={folder}"]) == 0
    return folder


def test_a_run_that_lacks_all_of_it_trains_resumes_and_says_so_in_one_line(words, ordinary, tmp_path):
    folder = tmp_path / "run"
    with contextlib.ExitStack() as stack:
        for call, number, _ in LACKS.values():
            stack.enter_context(refused(call, number, tmp_path))
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "STOP").touch()
        assert train([*words, f"output_dir={folder}"]) == 85
        assert train([*words, f"output_dir={folder}"]) == 0
    lines = [line for line in (folder / "train.log").read_text().splitlines() if "its file system lacks" in line]
    assert len(lines) == 2 and lines[0].endswith(lines[1].partition("WARNING")[2])
    assert "its file system lacks 4 things that the run does without: it cannot lock a file (" in lines[0]
    for name in ("last", "best"):
        assert not (folder / name).is_symlink()
        assert (folder / name).read_text() == f"{(ordinary / name).readlink()}\n"
    kept = sorted(path.name for path in (ordinary / "checkpoints").iterdir())
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == kept


def test_links_come_back_where_there_are_links(words, ordinary, tmp_path):
    """The folder was copied from a disk without links."""
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", "--no-dereference", ordinary, folder], check=True)
    for name in ("last", "best"):
        target = (folder / name).readlink()
        (folder / name).unlink()
        (folder / name).write_text(f"{target}\n")
    more = ["train.max_steps=4", "--allow-changed", "train.max_steps"]
    assert train([*words, f"output_dir={folder}", *more]) == 0
    assert (folder / "last").readlink().name == "step-00000004" and (folder / "best").is_symlink()


def test_an_old_checkpoint_that_cannot_be_renamed_stays_and_training_goes_on(words, tmp_path, monkeypatch):
    """Such a checkpoint is in the image of a container: it can be read, and not renamed."""
    folder = tmp_path / "run"
    intact = type(folder).rename

    def rename(self, target):
        if self.name == "step-00000001":
            raise OSError(18, "Invalid cross-device link")
        return intact(self, target)

    monkeypatch.setattr(type(folder), "rename", rename)
    assert train([*words, "data.val=[]", "checkpoint.keep=2", f"output_dir={folder}"]) == 0
    assert (folder / "checkpoints/step-00000001").is_dir() and (folder / "last").resolve().name == "step-00000003"
    assert (
        "step-00000001 could not be removed: [Errno 18] Invalid cross-device link" in (folder / "train.log").read_text()
    )
