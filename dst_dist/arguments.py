"""Types of the numbers that options take; argparse shows what they refuse, and ends with code 2."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(least: int) -> Callable[[str], int]:
    """Return the type of an option that takes a whole number from `least`."""

    def read(word: str) -> int:
        if not re.fullmatch("[0-9]+", word) or int(word) < least:
            raise ArgumentTypeError(f"{word}: say a whole number from {least}")
        return int(word)

    return read


def above_zero(word: str) -> float:
    """Read a number above 0. Raises ArgumentTypeError for any other word."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{word}: say a number above 0")
    return number


def gpu_gib(word: str) -> float:
    """Read the memory of a GPU as its maker writes it, `80GB`, which counts in GiB."""
    return above_zero(re.sub(r"\s*gi?b?$", "", word, flags=re.IGNORECASE))
