"""The three faults a user can cause: each says what, where and what to do."""

from collections.abc import Callable, Sequence
from typing import Any


class DstDistError(Exception):
    """One or several faults of the user's; ends the program with exit code 2, without a traceback.

    Args:
        faults: one message, or all that were found; each names the place and the remedy.
    """

    def __init__(self, faults: str | Sequence[str]):
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        return f"{len(self.faults)} faults:\n" + "\n".join(f"  - {fault}" for fault in self.faults)

    def __reduce__(self):
        # Exceptions cross process borders (data workers); pickle must rebuild them from the faults.
        return type(self), (self.faults,)


class ConfigError(DstDistError):
    """The recipe, the command line or the launcher's settings are wrong."""


class DataError(DstDistError):
    """A data file is missing, of another shape, or contradicts itself."""


class CheckpointError(DstDistError):
    """A model folder or saved state cannot be used as asked."""


def collect(faults: list[str], make: Callable[[], Any]) -> Any:
    """Return what `make` returns, or None with its faults added to the list."""
    try:
        return make()
    except DstDistError as error:
        faults += error.faults
        return None
