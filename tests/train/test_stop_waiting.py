"""A request to stop is obeyed by a process that waits, in Python or in a library, and says what for."""

import signal
from pathlib import Path

import pytest

from dst_dist.train.held_folder import HeldFolder
from tests.train.forking import wait_for
from tests.train.runs import cut_words

MODULE = ("tests.train.waiting",)


@pytest.fixture
def waits(starter, demo_words, tmp_path):
    """`waits(where, processes)` starts a training and returns it when it waits."""

    def start(where, processes, *words):
        words = [where, *cut_words(demo_words), "data.val=[]", *words]
        job = starter.start("cpu_ddp", words, tmp_path / "run", processes, module=MODULE)
        wait_for(Path(f"{tmp_path}/run.waits").exists)
        return job

    return start


@pytest.mark.parametrize(
    "where, processes, words, what",
    [
        # The other process waits in the process group for the main one.
        ("check", 2, (), "the other processes"),
        ("load", 1, (), "the start"),
        ("data", 1, (), "data"),
        ("worker", 2, ("data.num_workers=1",), "data"),
    ],
)
def test_sigterm(waits, where, processes, words, what):
    job = waits(where, processes, *words)
    job.send(signal.SIGTERM)
    ended = job.wait(60)
    assert ended.status == {
        "code": 85,
        "reason": f"stopped on request while it waited for {what}; the same command continues",
        "step": 0,
    }
    # Another process may not listen yet, or end because this one did; none has to be killed.
    assert job.codes[0] == 85 and -signal.SIGKILL not in job.codes
    assert "Traceback" not in ended.output


def test_a_stop_file(waits, tmp_path):
    job = waits("data", 1)
    (tmp_path / "run/STOP").touch()
    assert job.wait(60).status["code"] == 85
    assert not (tmp_path / "run/STOP").exists()


def test_a_start_that_the_main_process_refuses_ends_the_others_at_once(starter, demo_words, tmp_path):
    """They wait for it in the process group; the launcher's SIGTERM is enough, and it need not kill them."""
    holder = HeldFolder(tmp_path / "run")
    holder.lock()
    job = starter.start("cpu_ddp", cut_words(demo_words), tmp_path / "run", 2)
    ended = job.wait(60)
    assert ended.returncode == 2 and "is in use by process" in ended.output
    assert job.codes[0] == 2 and job.codes[1] in (85, -signal.SIGTERM)
