"""`dst-dist`: the commands beside training."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dst_dist.errors import DstDistError

BAD_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 for the user's fault."""
    options = parse(arguments)
    try:
        return options.run(options)
    except DstDistError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return BAD_USAGE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; `key=value` may stand before and after options. Raises SystemExit(2) on bad usage."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-") or not hasattr(options, "overrides")]
    if unknown:
        parser.error(f"not understood: {' '.join(unknown)}")
    if rest:
        options.overrides += rest
    return options


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dst-dist", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser("demo", help="make the demo: a generated world and a tiny model to learn it")
    demo.add_argument("--out", type=Path, required=True, help="folder to write")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--blank", action="store_true", help="every frame the same grey: what can be had without looking")
    demo.set_defaults(run=_demo)

    evaluate = commands.add_parser("evaluate", help="measure a run's final model on a split, beside chance and a rule")
    evaluate.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder with final/")
    evaluate.add_argument("--split", choices=("train", "val", "test"), default="val")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="change the run's recipe, for example data.root=...")
    evaluate.set_defaults(run=_evaluate)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from dst_dist.data.demo import make_demo
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=True)
    make_demo(options.out, seed=options.seed, blank=options.blank)
    print(f"made {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from dst_dist.evaluate.run import evaluate_run
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=True)
    evaluate_run(options.run_folder, options.split, options.overrides)
    return 0
