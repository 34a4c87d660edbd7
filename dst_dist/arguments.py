"""Types of the numbers that options take; argparse shows what they refuse, and ends with code 2."""

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable

GIB_OF = {"m": 1 / 1024, "g": 1, "t": 1024}
"""The GiB of a unit, by its first letter."""


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


def between(least: float, most: float) -> Callable[[str], float]:
    """Return the type of an option that takes a number from `least` to `most`."""

    def read(word: str) -> float:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise ArgumentTypeError(f"{word}: say a number from {least:g} to {most:g}")
        return number

    return read


def gpu_gib(word: str) -> float:
    """Read the memory of a GPU as its maker writes it, `80GB`, which counts in GiB."""
    number, unit = re.fullmatch(r"(.*?)\s*(?:([mgt])i?b?)?", word, flags=re.IGNORECASE | re.DOTALL).groups("g")
    try:
        return above_zero(number) * GIB_OF[unit.lower()]
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{word}: say a number above 0, in MB, GB or TB") from error
