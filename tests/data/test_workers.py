"""`data.num_workers: auto` by cores, processes and limits of a container."""

import os

import pytest

from dst_dist.data import workers
from dst_dist.data.workers import num_cores, num_workers


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(cores, processes, **files)` sets what a node has and the texts of its cgroup files."""

    def set_up(cores, processes=1, files=()):
        monkeypatch.setattr(workers, "CGROUPS", tmp_path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        for name, text in dict(files).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)

    return set_up


@pytest.mark.parametrize(
    "cores, processes, expected",
    # The process itself keeps one of its cores; there is always a worker, and never more than eight.
    [(1, 1, 1), (2, 1, 1), (4, 1, 3), (4, 8, 1), (40, 8, 4), (47, 8, 4), (48, 8, 5), (224, 8, 8)],
)
def test_auto_is_by_cores_and_processes(machine, cores, processes, expected):
    machine(cores, processes)
    assert num_workers("auto") == expected


def test_a_number_is_taken_as_it_is(machine):
    machine(4)
    assert [num_workers(asked) for asked in (0, 1, 30)] == [0, 1, 30]


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"cpu.max": "350000 100000\n"}, 3),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "600000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ({"cpu.max": "9900000 100000\n"}, 16),
    ],
)
def test_a_container_may_have_fewer_cores_than_the_machine(machine, files, expected):
    machine(16, files=files)
    assert num_cores() == expected


def test_cores_of_this_machine():
    assert 1 <= num_cores() <= os.cpu_count()
