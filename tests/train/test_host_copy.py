"""Copies of training state in host memory: the same bits, in the same memory, and only where there is room."""

import pytest
import torch

from dst_dist.train import host_copy
from dst_dist.train.host_copy import HostCopy, available_memory
from dst_dist.train.state_files import Stretch

CPU = torch.device("cpu")


def test_a_copy_has_the_same_bits_and_does_not_change_with_the_state():
    weight, random = torch.randn(7), torch.get_rng_state()[:13]
    state = [Stretch("w", 4, weight), Stretch("empty", 0, weight[:0]), Stretch("r", 0, random), Stretch("v", 1, weight)]
    copy = HostCopy(state, CPU)
    copy.allocate()
    taken, before = copy.take(state), weight.clone()
    weight += 1
    assert [(one.name, one.start, one.key) for one in taken] == [(one.name, one.start, one.key) for one in state]
    assert torch.equal(taken[0].values, before) and torch.equal(taken[3].values, before)
    assert torch.equal(taken[2].values, random) and taken[1].values.numel() == 0
    # The next save needs no more memory.
    again = copy.take(state)
    assert torch.equal(again[0].values, weight)
    assert [one.values.data_ptr() for one in again] == [one.values.data_ptr() for one in taken]


def test_a_state_of_another_size_is_a_fault():
    copy = HostCopy([Stretch("w", 0, torch.zeros(3))], CPU)
    copy.allocate()
    with pytest.raises(ValueError):
        copy.take([])


MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    800 kB\n"
V2, V1 = "0::/job/step\n", "4:memory:/job/step\n1:cpu:/\n"


def group(folder, limit, usage, cached, names=("memory.max", "memory.current", "inactive_file")):
    return {
        f"{folder}{names[0]}": limit,
        f"{folder}{names[1]}": usage,
        f"{folder}memory.stat": f"{names[2]} {cached}\n",
    }


def old(folder, *numbers):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return group(f"memory/{folder}", *numbers, names=names)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(own groups, files)` sets what the system says of memory."""

    def set_up(own="", files=()):
        for name, text in {"meminfo": MEMINFO, "own": own, **dict(files)}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        for name, place in (("MACHINE", "meminfo"), ("OWN_CGROUPS", "own"), ("CGROUPS", "")):
            monkeypatch.setattr(host_copy, name, tmp_path / place)

    return set_up


@pytest.mark.parametrize(
    "own, files, expected",
    [
        ("", {}, 819_200),
        (V2, {}, 819_200),
        (V2, group("", "max", "5", "0"), 819_200),
        # The job above has a limit, the step none; 20,000 bytes of what it uses are cached files.
        (V2, group("job/", "100000", "60000", "20000") | group("job/step/", "max", "60000", "0"), 60_000),
        (V2, group("job/", "100000", "60000", "20000") | group("job/step/", "50000", "30000", "0"), 20_000),
        (V2, group("", "70000", "60000", "0"), 10_000),
        (V1, old("job/step/", "100000", "60000", "20000"), 60_000),
        (V1, old("", "9223372036854771712", "60000", "20000"), 819_200),
        # The group that a container sees as its root.
        (V1, old("", "70000", "60000", "0"), 10_000),
    ],
)
def test_available_memory_is_of_the_machine_and_every_group(machine, own, files, expected):
    machine(own, files)
    assert available_memory() == expected


@pytest.mark.parametrize(
    "numbers, processes, fits", [(102_400, 1, True), (102_416, 1, False), (51_200, 2, True), (102_400, 2, False)]
)
def test_copies_of_all_processes_may_take_half_of_it(machine, monkeypatch, numbers, processes, fits):
    machine()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert HostCopy([Stretch("w", 0, torch.zeros(numbers))], CPU).fits == fits


def test_this_machine_has_memory():
    assert available_memory() > 1 << 20
