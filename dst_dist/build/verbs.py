"""The command line of this room, read at every start of `dst-dist`: what does the work is imported when it runs."""

import argparse
from pathlib import Path


def declare_build(commands) -> None:
    """Declare the arguments of `dst-dist build`."""
    command = commands.add_parser("build", help="make clips with a dialog state from ProAssist's generated dialogs")
    command.add_argument("--dialogs", type=Path, nargs="+", required=True, metavar="FILE", help="raw dialogs, JSON")
    command.add_argument("--out", type=Path, required=True, metavar="ROOT", help="the data root to write to")
    command.add_argument("--fps", type=_positive, metavar="X", help="rows a second of all frames files")
    command.add_argument("--similarity", default="tfidf", metavar="NAME", help="tfidf, or a sentence model")
    command.add_argument("--clip-seconds", type=_positive, metavar="X", help="cut dialogs into clips of this length")
    command.set_defaults(run=_run_build)


def _run_build(options: argparse.Namespace) -> None:
    from dst_dist.build.show import build_lines

    for line in build_lines(options.dialogs, options.out, options.fps, options.similarity, options.clip_seconds):
        print(line)


def _positive(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{word}: say a number above 0")
    return number
