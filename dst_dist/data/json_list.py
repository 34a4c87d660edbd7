"""Reads a JSON list value by value, so that no more than one of them and a piece of the text are in memory."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

CHUNK = 1 << 20
"""Characters that are read at least at a time."""
_SPACE = re.compile(r"[ \t\n\r]*")
_BEHIND_A_VALUE = (",", "]", " ", "\t", "\n", "\r")
_decode = json.JSONDecoder().raw_decode


def stream_list(file: TextIO) -> Iterator[Any]:
    """Yield the values of the JSON list that a file holds.

    Raises:
        ValueError, RecursionError: where `json.loads` of the whole text would raise it, after the values before it.
    """
    text = _Text(file)
    text.take("[")
    if text.next() != "]":
        yield text.value()
        while text.next() == ",":
            text.take(",")
            yield text.value()
    text.take("]")
    text.take("")


class _Text:
    """The text of a file from a place on."""

    def __init__(self, file: TextIO):
        self._file, self._text, self._place, self._is_whole = file, "", 0, False

    def next(self) -> str:
        """Return the next character that is no space, empty at the end."""
        while (place := _SPACE.match(self._text, self._place).end()) == len(self._text) and not self._is_whole:
            self._place = place
            self._read_more()
        self._place = place
        return self._text[place : place + 1]

    def take(self, expected: str) -> None:
        """Go past a character. Raises ValueError if it is not the next one."""
        if self.next() != expected:
            raise ValueError(f"{expected or 'the end'} expected")
        self._place += 1

    def value(self) -> Any:
        """Return the next value and go past it."""
        self.next()
        while True:
            try:
                value, end = _decode(self._text, self._place)
                # A number may go on behind the piece that was read.
                if self._is_whole or self._text[end : end + 1] in _BEHIND_A_VALUE:
                    self._place = end
                    return value
            except ValueError:
                if self._is_whole:
                    raise
            self._read_more()

    def _read_more(self) -> None:
        rest = self._text[self._place :]
        more = self._file.read(max(CHUNK, len(rest)))
        self._text, self._place, self._is_whole = rest + more, 0, not more
