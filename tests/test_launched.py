"""The launcher's environment variables, as torchrun sets them, and without a launcher."""

import pytest

from dst_dist import launched

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def read(monkeypatch, *values):
    """Set the variables and return (is_main, num_processes, is_node_leader, num_node_processes)."""
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    return launched.is_main(), launched.num_processes(), launched.is_node_leader(), launched.num_node_processes()


@pytest.mark.parametrize(
    "values, expected",
    [
        ((None,) * 4, (True, 1, True, 1)),
        # The fifth of six processes, the first one on the second node of four processes a node.
        (("4", "6", "0", "4"), (False, 6, True, 4)),
        (("1", "6", "1", "4"), (False, 6, False, 4)),
        (("0", "6", "0", "4"), (True, 6, True, 4)),
    ],
)
def test_the_variables_are_read(monkeypatch, values, expected):
    assert read(monkeypatch, *values) == expected
