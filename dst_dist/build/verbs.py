"""The command line of this room, read at every start of `dst-dist`: what does the work is imported when it runs."""

import argparse

from dst_dist.arguments import above_zero, between, whole
from dst_dist.paths import path_argument


def declare_build(commands) -> None:
    """Declare the arguments of `dst-dist build`."""
    command = commands.add_parser("build", help="make clips with a dialog state from ProAssist's generated dialogs")
    command.add_argument(
        "--dialogs", type=path_argument, nargs="+", required=True, metavar="FILE", help="raw dialogs, JSON"
    )
    command.add_argument("--out", type=path_argument, required=True, metavar="ROOT", help="the data root to write to")
    command.add_argument("--fps", type=above_zero, metavar="X", help="rows a second of all frames files")
    command.add_argument("--similarity", default="tfidf", metavar="NAME", help="tfidf, or a sentence model")
    command.add_argument("--clip-seconds", type=above_zero, metavar="X", help="cut dialogs into clips of this length")
    command.add_argument("--llm", metavar="URL", help="an OpenAI-compatible server that is asked about the lines too")
    command.add_argument("--llm-model", metavar="NAME", help="the model's name there; the key is in OPENAI_API_KEY")
    command.set_defaults(run=_run_build)


def declare_frames(commands) -> None:
    """Declare the arguments of `dst-dist frames`."""
    command = commands.add_parser("frames", help="make frames files from video files")
    command.add_argument("videos", type=path_argument, nargs="+", metavar="VIDEO", help="a video file")
    command.add_argument(
        "--out", type=path_argument, required=True, metavar="FOLDER", help="for example data/kitchen/frames"
    )
    command.add_argument(
        "--fps", type=between(0.001, 1000), default=2.0, metavar="X", help="frames a second, from 0.001 to 1000 (2)"
    )
    command.add_argument("--size", type=whole(1), metavar="N", help="longer side in pixels; otherwise the video's own")
    command.set_defaults(run=_run_frames)


def _run_frames(options: argparse.Namespace) -> None:
    from dst_dist.build.frames import make_frames

    for line in make_frames(options.videos, options.out, options.fps, options.size):
        print(line, flush=True)


def _run_build(options: argparse.Namespace) -> None:
    from dst_dist.build.show import build_lines

    llm = options.llm, options.llm_model
    for line in build_lines(options.dialogs, options.out, options.fps, options.similarity, options.clip_seconds, llm):
        print(line)
