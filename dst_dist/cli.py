"""`dst-dist`: the commands beside training."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dst_dist.ending import let_leader_speak
from dst_dist.errors import DstDistError

BAD_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 for the user's fault."""
    options = parse(arguments)
    try:
        return options.run(options)
    except DstDistError as error:
        let_leader_speak()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return BAD_USAGE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; words of a recipe may stand before and after options. Raises SystemExit(2) on bad usage."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-") or not hasattr(options, "words")]
    if unknown:
        parser.error(f"not understood: {' '.join(unknown)}")
    if rest:
        options.words += rest
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
    evaluate.add_argument("--streaming", action="store_true", help="frame by frame, as in use, instead of with the gold history")
    evaluate.add_argument(
        "--on-the-clock", action="store_true",
        help="stream one video at a time, and measure too what its own delay costs if frames go on arriving meanwhile",
    )  # fmt: skip
    evaluate.add_argument(
        "--beside", action="append", default=[], type=_named_run, metavar="NAME=RUN",
        help="show another run's evaluation of the same clips among the baselines, for example blind=runs/demo-blind",
    )  # fmt: skip
    evaluate.add_argument("words", nargs="*", metavar="key=value", help="change the run's recipe, for example data.root=...")
    evaluate.set_defaults(run=_evaluate)

    stream = commands.add_parser("stream", help="show a run's final model a video frame by frame, and print what it writes")
    stream.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder with final/")
    stream.add_argument("--video", required=True, help="name of a frames file of the split; with --task a path")
    stream.add_argument(
        "--task", type=Path, metavar="JSON",
        help="what to follow in a video from outside the data: a frames file, a folder of images, or a video file",
    )  # fmt: skip
    stream.add_argument("--split", choices=("train", "val", "test"), default="val")
    stream.add_argument("words", nargs="*", metavar="key=value", help="change the run's recipe")
    stream.set_defaults(run=_stream)

    report = commands.add_parser("report", help="write a run on one page of HTML: training, metrics, every streamed clip")
    report.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder")
    report.add_argument("--out", type=Path, help="the file to write, otherwise RUN/evaluation/report.html")
    report.set_defaults(run=_report)

    slurm = commands.add_parser("slurm", help="render the sbatch script of a run, keep it with the run, submit it")
    slurm.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    slurm.add_argument("--engine", default="zero2", help="a file of launch/, without its ending")
    slurm.add_argument("--nodes", type=int, default=1)
    slurm.add_argument("--processes-per-node", type=int, default=8, help="GPUs of a node")
    slurm.add_argument("--cpus-per-node", type=int, help="otherwise one for each process and each of its data workers")
    slurm.add_argument("--time", default="24:00:00", help="limit of one start; the job is queued again until it is done")
    slurm.add_argument("--signal-s", type=int, default=300, help="seconds before the limit at which the run saves and stops")
    slurm.add_argument("--max-requeues", type=int, default=50)
    slurm.add_argument("--allow-changed", action="append", default=[], metavar="KEY", help="go on although this differs, as for training")
    slurm.add_argument("--dry-run", action="store_true", help="show the script and submit nothing")
    slurm.set_defaults(run=_slurm)
    return parser


def _named_run(word: str) -> tuple[str, Path]:
    name, _, folder = word.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"{word}: say NAME=RUN")
    return name, Path(folder)


def _demo(options: argparse.Namespace) -> int:
    from dst_dist.data.demo import make_demo
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=True)
    make_demo(options.out, seed=options.seed, blank=options.blank)
    print(f"made {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from dst_dist.evaluate.run import evaluate_run, stream_run
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=os.environ.get("RANK", "0") == "0")
    if options.streaming or options.on_the_clock:
        stream_run(options.run_folder, options.split, options.words, options.beside, options.on_the_clock)
    else:
        evaluate_run(options.run_folder, options.split, options.words, options.beside)
    return 0


def _stream(options: argparse.Namespace) -> int:
    from dst_dist.evaluate.run import stream_file, stream_video
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=True)
    # `| head` ends it without a word.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if options.task is not None:
        lines = stream_file(options.run_folder, Path(options.video), options.task, options.words)
    else:
        lines = stream_video(options.run_folder, options.split, options.video, options.words)
    for line in lines:
        print(line, flush=True)
    return 0


def _report(options: argparse.Namespace) -> int:
    from dst_dist.evaluate.report import write_report

    print(f"written to {write_report(options.run_folder, options.out)}")
    return 0


def _slurm(options: argparse.Namespace) -> int:
    from dst_dist.slurm import Job, submit

    job = Job(
        options.engine, options.nodes, options.processes_per_node, options.cpus_per_node, options.time,
        options.signal_s, options.max_requeues,
    )  # fmt: skip
    print(submit(job, options.words, options.allow_changed, options.dry_run))
    return 0
