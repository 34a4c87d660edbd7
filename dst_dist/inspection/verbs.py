"""The command line of this room, read at every start of `dst-dist`: what does the work is imported when it runs."""

import argparse

from dst_dist.arguments import whole
from dst_dist.paths import path_argument

SPLITS = ("train", "val", "test")


def declare_check(commands) -> None:
    """Declare the arguments of `dst-dist check`."""
    command = commands.add_parser("check", help="look at all data of a recipe: every fault, counts, lengths, classes")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--json", action="store_true", help="print what was found as JSON")
    command.set_defaults(run=_run_check)


def _run_check(options: argparse.Namespace) -> None:
    import json

    from dst_dist.inspection.check import check_data, lines_of
    from dst_dist.logs import set_up_logging

    # Only what was found is printed, so that it can be piped.
    set_up_logging(is_main=not options.json)
    found = check_data(options.words)
    for line in [json.dumps(found, indent=1)] if options.json else lines_of(found):
        print(line)


def declare_show(commands) -> None:
    """Declare the arguments of `dst-dist show`."""
    command = commands.add_parser("show", help="show a clip as the model sees it, and what each token trains")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--split", choices=SPLITS, default="train")
    command.add_argument("--clip", metavar="ID", help="a clip's id; otherwise the first")
    command.add_argument("--epoch", type=whole(0), default=0, help="the epoch whose negatives are shown")
    command.add_argument("--html", type=path_argument, metavar="FILE", help="write a page with the frames instead")
    command.set_defaults(run=_run_show)


def _run_show(options: argparse.Namespace) -> None:
    from dst_dist.files import write_whole
    from dst_dist.inspection.page import page_of
    from dst_dist.inspection.show import lines_of, shown_clip
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=False)
    shown = shown_clip(options.words, options.split, options.clip, options.epoch)
    if options.html is not None:
        write_whole(options.html, page_of(shown))
        print(f"written to {options.html}")
        return
    for line in lines_of(shown):
        print(line)
