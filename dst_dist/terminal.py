"""Makes standard output take any text, also where the system's encoding is not UTF-8."""

import io
import sys


def print_any_text() -> None:
    """Let characters that the terminal's encoding lacks be printed as escapes; without this they end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
