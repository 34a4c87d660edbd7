"""Errors that list every fault, and that survive a process border."""

import pickle

import pytest

from dst_dist.errors import CheckpointError, ConfigError, DataError, DstDistError, collect


def test_one_fault_is_the_message_and_several_are_a_list():
    assert str(ConfigError("a.json: not there")) == "a.json: not there"
    assert (
        str(DataError(["a.json: not there", "b.json: empty"])) == "2 faults:\n  - a.json: not there\n  - b.json: empty"
    )


def test_what_several_checks_found_stands_once_in_the_order_found():
    assert DataError(["b", "a", "b", "c", "a"]).faults == ("b", "a", "c")
    assert str(ConfigError(["a", "a"])) == "a"


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError])
def test_a_pickled_error_keeps_its_kind_and_faults(kind):
    again = pickle.loads(pickle.dumps(kind(["a", "b"])))
    assert type(again) is kind and isinstance(again, DstDistError) and again.faults == ("a", "b")


def test_faults_of_several_checks_are_collected():
    def fail(*faults):
        raise DataError(faults)

    faults = []
    assert collect(faults, lambda: 5) == 5
    assert collect(faults, lambda: fail("a", "b")) is None
    assert collect(faults, lambda: fail("c")) is None
    assert faults == ["a", "b", "c"]


def test_other_errors_are_not_collected():
    with pytest.raises(ZeroDivisionError):
        collect([], lambda: 1 / 0)
