"""Expand `~` and `$NAME` in the paths that users write in recipes and options, as a shell does."""

import argparse
import os
import re
from pathlib import Path

VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([^}]*)\})", re.ASCII)


def expanded(text: str) -> str:
    """Return a path with its home folder and variables replaced; every other character stays.

    A folder whose name has a `$`, or begins with `~` like a user's home, is taken as it stands if it exists and there
    is no such variable or user.

    Raises:
        ValueError: if a variable is not set, a user has no home, or no file can have this name.
    """
    try:
        os.fsencode(text).decode("utf-8")
    except UnicodeError as error:
        raise ValueError("has bytes that are not UTF-8; rename it") from error
    if "\0" in text:
        raise ValueError("no name of a file has a NUL character")
    return VARIABLE.sub(_value, _with_home(text))


def _with_home(text: str) -> str:
    first = text.partition("/")[0]
    with_home = os.path.expanduser(text)
    if first.startswith("~") and with_home == text and (first == "~" or not os.path.lexists(first)):
        raise ValueError(f"{first} is nobody's home folder here")
    return with_home


def _value(found: re.Match[str]) -> str:
    """Return the value of a variable, or its text where that is part of the name of something that exists."""
    if value := os.environ.get(found[1] or found[2]):
        return value
    end_of_name = (found.string + "/").index("/", found.end())
    if not os.path.lexists(found.string[:end_of_name]):
        raise ValueError(f"{found[0]} is not set")
    return found[0]


def path_argument(word: str) -> Path:
    """Return the path that an option names. Raises ArgumentTypeError, as argparse wants it, where `expanded` fails."""
    try:
        return Path(expanded(word))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word}: {error}") from error
