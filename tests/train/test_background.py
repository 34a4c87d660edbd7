"""Threads beside training: they end with their work, raise what it raised, and remove old checkpoints."""

import shutil
import threading
import time

import pytest

from dst_dist.train.background import THREAD, Remover, in_thread


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


def test_a_thread_ends_with_its_work():
    may_end = threading.Event()
    future = in_thread(3, lambda: may_end.wait(20))
    assert [thread.name for thread in threads()] == [f"{THREAD}-3_0"]
    may_end.set()
    assert future.result() is True
    stop = time.monotonic() + 20
    while threads() and time.monotonic() < stop:
        time.sleep(0.01)
    assert not threads()


def test_what_the_work_raised_is_raised_again():
    with pytest.raises(KeyboardInterrupt):
        in_thread(0, lambda: (_ for _ in ()).throw(KeyboardInterrupt())).result()


@pytest.mark.parametrize("background", [False, True])
def test_folders_are_gone_after_the_wait(tmp_path, caplog, monkeypatch, background):
    may_remove = threading.Event()
    intact = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path: may_remove.wait(20) and intact(path))
    remover = Remover(background)
    paths = [tmp_path / name for name in ("a", "never there", "b")]
    for path in (paths[0], paths[2]):
        (path / "inside").mkdir(parents=True)
    if not background:
        may_remove.set()
    remover.remove_all(paths)
    assert paths[2].exists() == background, "training goes on before they are gone"
    may_remove.set()
    remover.wait()
    remover.wait()
    assert not any(path.exists() for path in paths)
    assert [line.split(":")[0] for line in caplog.messages] == [f"{paths[1]} could not be removed"]
