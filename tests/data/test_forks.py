"""Work that is spread over processes comes back in order."""

import gc
import logging
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dst_dist.data import forks
from dst_dist.data.forks import in_workers


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_results_are_in_order_on_any_number_of_processes(num_workers):
    def square(number):
        return {"of": number, "is": number**2}, os.getpid()

    results = list(in_workers(square, list(range(20)), [1] * 20, "squares", num_workers))
    assert [result for result, _ in results] == [{"of": number, "is": number**2} for number in range(20)]
    others = {process for _, process in results} - {os.getpid()}
    assert len(others) == (num_workers if num_workers > 1 else 0)


class Left:
    """Garbage that the collector alone can free, like a video decoder that was closed."""

    def __init__(self, freed):
        self.itself, self.freed = self, freed

    def __del__(self):
        self.freed.append(os.getpid())


def test_garbage_of_the_main_process_is_not_freed_in_a_worker():
    """Freeing a video decoder waits for its threads, which a fork lacks."""
    freed = []
    gc.disable()
    try:
        Left(freed)
        assert list(in_workers(lambda _: (gc.collect(), list(freed))[1], [0, 1], [1, 1], "items", 2)) == [[], []]
    finally:
        gc.enable()
    gc.collect()
    assert freed == [os.getpid()]


def test_nothing_to_do():
    assert list(in_workers(len, [], [], "nothing", 4)) == []


def test_workers_do_not_hear_the_request_to_stop():
    handlers = list(in_workers(signal.getsignal, [signal.SIGTERM] * 2, [1, 1], "signals", 2))
    assert handlers == [signal.SIG_IGN] * 2


def test_an_error_in_a_worker_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        list(in_workers(lambda number: 1 // number, [1, 0, 1], [1, 1, 1], "quotients", 2))


def test_a_killed_worker_ends_the_work_instead_of_hanging():
    with pytest.raises(RuntimeError, match="exit code -9.*data.num_workers=0"):
        list(in_workers(lambda number: os.kill(os.getpid(), signal.SIGKILL), [1, 2], [1, 1], "ends", 2))


def test_no_worker_outlives_the_work_whether_it_is_finished_or_not():
    others = psutil.Process().children()
    endless = in_workers(lambda number: number or time.sleep(600), [1, 2, 0, 0], [1] * 4, "numbers", 2)
    assert [next(endless), next(endless)] == [1, 2]
    children = [child for child in psutil.Process().children() if child not in others]
    assert len(children) == 2
    endless.close()
    assert not [child for child in children if child.is_running()]


def test_no_worker_outlives_a_main_process_that_was_killed(tmp_path):
    """Each worker notices it when it sends its next result."""
    names = tmp_path / "workers"
    pid = os.fork()
    if pid == 0:
        results = in_workers(lambda _: time.sleep(0.1) or os.getpid(), [0] * 100, [1] * 100, "slow", 3)
        names.write_text(" ".join(str(next(results)) for _ in range(3)))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    workers = [int(name) for name in names.read_text().split()]
    assert len(set(workers)) == 3
    wait_until = time.monotonic() + 20
    while any(map(psutil.pid_exists, workers)):
        assert time.monotonic() < wait_until
        time.sleep(0.02)


def test_a_program_that_fails_beside_its_workers_ends():
    """A traceback keeps what it shows, workers among it, until Python ends."""
    program = """if True:
        import multiprocessing, time
        from dst_dist.data.forks import leave_signals_to_the_trainer
        fork = multiprocessing.get_context("fork")
        ready = fork.Event()
        def work():
            leave_signals_to_the_trainer()
            ready.set()
            time.sleep(600)
        worker = fork.Process(target=work, daemon=True)
        worker.start()
        ready.wait()
        raise ValueError("bad")
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.strip().endswith("ValueError: bad")


def test_slow_work_says_how_far_it_is(caplog, monkeypatch):
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(forks.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO, logger="dst_dist"):
        list(in_workers(str, range(5), [100] * 5, "frames checked", 0))
    # Every 20 s of this clock another 100 are done.
    assert caplog.messages == ["frames checked: 200 of 500, 5 a second", "frames checked: 400 of 500, 5 a second"]
