"""Collectives: values of all processes, and errors that all of them see. The processes are threads."""

import os
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch

from dst_dist import processes
from dst_dist.errors import ConfigError
from dst_dist.processes import Processes
from tests.train.fake_engine import on_processes


def test_a_single_process_needs_no_group():
    alone = Processes(0, 1, torch.device("cpu"))
    assert alone.is_main
    assert alone.sum_over_processes(torch.tensor([1.0, 2.0])).tolist() == [1, 2]
    assert alone.any_process(True, False) == [True, False]
    assert alone.gather_objects({"a": 1}) == [{"a": 1}] and alone.from_main("b") == "b"


@pytest.mark.parametrize("launched, seen", [("2", 1), ("1", 2), ("2", 2)])
def test_processes_that_were_not_launched_together_are_refused(monkeypatch, launched, seen):
    """The last: Accelerate sees two, but torch has no group of them."""
    monkeypatch.setenv("WORLD_SIZE", launched)
    with pytest.raises(ConfigError, match=f"{launched} processes were launched, but Accelerate sees {seen} and"):
        Processes(0, seen, torch.device("cpu"))


@pytest.mark.parametrize(
    "number, shares",
    [
        (1, [["b", "d", "c", "a", "e"]]),
        # 9 to the first; 5 and 4 to the second; 3 to the first, as 9 = 9; 2 to the second, as 9 < 12.
        (2, [["b", "a"], ["d", "c", "e"]]),
        (6, [["b"], ["d"], ["c"], ["a"], ["e"], []]),
    ],
)
def test_each_process_gets_a_fair_share(number, shares):
    sizes = {"a": 3, "b": 9, "c": 4, "d": 5, "e": 2}
    assert on_processes(number, lambda engine: engine.own_share(sizes))[0] == shares


def test_results_come_in_order_of_rank():
    results, _ = on_processes(3, lambda engine: engine.on_every(lambda: engine.rank * 10))
    assert results == [[0, 10, 20]] * 3


def test_an_error_on_one_process_is_raised_on_all():
    def fails(engine):
        def action():
            if engine.rank == 1:
                raise OSError("the disk is full")

        engine.on_every(action)

    results, _ = on_processes(3, fails)
    assert [str(result) for result in results] == [
        "on another process: the disk is full",
        "the disk is full",
        "on another process: the disk is full",
    ]


def test_only_the_main_process_acts_and_all_see_its_error():
    called = []

    def work(engine):
        engine.on_main(lambda: called.append(engine.rank))
        engine.on_main(lambda: os.stat("/nowhere/file"))

    results, _ = on_processes(2, work)
    assert called == [0]
    assert all(isinstance(result, OSError) and "No such file" in str(result) for result in results)


def joined(monkeypatch, launched, seen):
    """Start a process of these numbers; return the settings that Accelerate is given."""
    given = {}

    def state(**settings):
        given.update(settings)
        return SimpleNamespace(num_processes=seen, process_index=0, device=torch.device("cpu"))

    monkeypatch.setattr(processes, "PartialState", state)
    monkeypatch.setattr("dst_dist.processes.dist.is_initialized", lambda: True)
    monkeypatch.setattr("dst_dist.processes.dist.get_world_size", lambda: launched)
    monkeypatch.setenv("WORLD_SIZE", str(launched))
    processes.start_processes()
    return given


def test_one_may_take_hours_longer_than_another(monkeypatch):
    assert joined(monkeypatch, 2, 2)["timeout"] >= timedelta(hours=12)


def test_processes_that_do_not_see_each_other_raise(monkeypatch):
    with pytest.raises(ConfigError, match="2 processes were launched, but Accelerate sees 1"):
        joined(monkeypatch, 2, 1)
