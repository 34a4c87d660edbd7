"""Errors that a user can cause. Each message says what is wrong, where, and what to do."""

from collections.abc import Callable, Sequence
from typing import Any


class DstDistError(Exception):
    """One or several faults that the user can remove; ends the program with exit code 2, without a traceback.

    Args:
        faults: one message, or all that were found; a fault found by several checks stands once.
    """

    def __init__(self, faults: str | Sequence[str]):
        self.faults = (faults,) if isinstance(faults, str) else tuple(dict.fromkeys(faults))
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        return f"{len(self.faults)} faults:\n" + "\n".join(f"  - {fault}" for fault in self.faults)

    def __reduce__(self):
        # Data workers pickle exceptions; pickle must rebuild them from the faults.
        return type(self), (self.faults,)


class ConfigError(DstDistError):
    """The recipe, the command line or the launcher's settings are wrong."""


class DataError(DstDistError):
    """A data file is missing, has a wrong form, or contradicts itself."""


class CheckpointError(DstDistError):
    """A model folder or a checkpoint cannot be used."""


def collect(faults: list[str], make: Callable[[], Any]) -> Any:
    """Return what `make` returns; if it raises, add its faults to the list and return None."""
    try:
        return make()
    except DstDistError as error:
        faults += error.faults
        return None
