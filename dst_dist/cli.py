"""`dst-dist`: the commands beside training. A verb is one function that declares its arguments and one that runs it."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dst_dist import recipe_verbs
from dst_dist.arguments import whole
from dst_dist.build.verbs import declare_build, declare_frames
from dst_dist.demo.world import SLOTS, WORLDS
from dst_dist.errors import ConfigError, DstDistError
from dst_dist.exit import BAD_USAGE, DONE, FAILED, let_leader_speak
from dst_dist.inspection.verbs import declare_check, declare_show
from dst_dist.launched import is_main
from dst_dist.paths import path_argument
from dst_dist.terminal import print_any_text
from dst_dist.versions import check_versions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code, 2 for the user's fault, and after `train` the training's own."""
    print_any_text()
    options = parse(arguments)
    try:
        # The doctor says it among the rest.
        if options.run is not _run_doctor:
            check_versions()
        return options.run(options) or DONE
    except DstDistError as error:
        let_leader_speak()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        print("interrupted from the keyboard", file=sys.stderr)
        return FAILED


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line; words of a recipe may stand before and after options. SystemExit(2) on bad usage."""
    parser = argparse.ArgumentParser(prog="dst-dist", description="Commands beside training.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for declare in (
        _demo,
        _doctor,
        declare_build,
        declare_frames,
        declare_check,
        declare_show,
        recipe_verbs.declare_train,
        recipe_verbs.declare_recipe,
        recipe_verbs.declare_explain,
        recipe_verbs.declare_schema,
        recipe_verbs.declare_plan,
        recipe_verbs.declare_bench,
        _features,
        _evaluate,
        _stream,
        _report,
        _export,
        recipe_verbs.declare_slurm,
    ):
        declare(commands)
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-") or not hasattr(options, "words")]
    if unknown:
        parser.error(f"not understood: {' '.join(unknown)}")
    if rest:
        options.words += rest
    return options


def _demo(commands) -> None:
    command = commands.add_parser("demo", help="make the demo: a generated world and a tiny model to learn it")
    command.add_argument("--out", type=path_argument, required=True, help="folder to write")
    command.add_argument("--seed", type=whole(0), default=0)
    command.add_argument("--blank", action="store_true", help="make every frame grey: what is learned without looking")
    command.add_argument(
        "--world",
        choices=WORLDS,
        default=SLOTS.name,
        help="slots: a step has a cell of its own (default); objects: its name has to be read and its object found",
    )
    command.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> None:
    from dst_dist.demo.make import make_demo
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=True)
    make_demo(options.out, seed=options.seed, blank=options.blank, world=WORLDS[options.world])
    print(f"made {options.out}")


def _doctor(commands) -> None:
    command = commands.add_parser("doctor", help="say whether this machine can train, and what would make it faster")
    command.add_argument("--out", type=path_argument, default=Path("runs"), help="where runs are to go (runs)")
    command.set_defaults(run=_run_doctor)


def _run_doctor(options: argparse.Namespace) -> int:
    from dst_dist.doctor import examine, exit_code
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=False)
    findings = []
    for finding in examine(options.out):
        findings.append(finding)
        if is_main():
            print(finding, flush=True)
    return exit_code(findings)


def _features(commands) -> None:
    command = commands.add_parser("features", help="encode all frames of a recipe once, into its data.feature_cache")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.set_defaults(run=_run_features)


def _run_features(options: argparse.Namespace) -> None:
    from dst_dist.features import make_features
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main())
    make_features(options.words)


def _evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="measure a run's final model on a split, beside baselines")
    _add_run(command)
    command.add_argument("--streaming", action="store_true", help="frame by frame, as in use, without the gold history")
    command.add_argument(
        "--on-the-clock",
        action="store_true",
        help="stream one video at a time, and also measure its delay as if frames went on arriving meanwhile",
    )
    command.add_argument(
        "--compare",
        action="append",
        default=[],
        type=_named_run,
        metavar="NAME=RUN",
        help="show another run's evaluation of the same clips among the baselines, for example blind=runs/demo-blind",
    )
    command.set_defaults(run=_run_evaluate)


def _named_run(word: str) -> tuple[str, Path]:
    name, _, folder = word.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"{word}: say NAME=RUN")
    return name, path_argument(folder)


def _run_evaluate(options: argparse.Namespace) -> None:
    from dst_dist.evaluate.run import evaluate_run, stream_run
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main())
    if options.streaming or options.on_the_clock:
        stream_run(options.run_folder, options.split, options.words, options.compare, options.on_the_clock)
    else:
        evaluate_run(options.run_folder, options.split, options.words, options.compare)


def _stream(commands) -> None:
    command = commands.add_parser("stream", help="show a run's final model one video, and print what it writes")
    _add_run(command)
    command.add_argument("--video", required=True, help="name of a frames file of the split; with --task a path")
    command.add_argument(
        "--task",
        type=path_argument,
        metavar="JSON",
        help="what to follow in a video from outside the data: a frames file, a folder of images, or a video file",
    )
    command.set_defaults(run=_run_stream)


def _run_stream(options: argparse.Namespace) -> None:
    from dst_dist.evaluate.show import stream_file, stream_video
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=True)
    # Behind `| head` it ends without a traceback.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if options.task is not None:
        lines = stream_file(options.run_folder, _video_path(options.video), options.task, options.words)
    else:
        lines = stream_video(options.run_folder, options.split, options.video, options.words)
    for line in lines:
        print(line, flush=True)


def _video_path(word: str) -> Path:
    try:
        return path_argument(word)
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"--video {error}") from error


def _add_run(command: argparse.ArgumentParser) -> None:
    """Add what every command on a finished run takes."""
    command.add_argument("run_folder", type=path_argument, metavar="RUN", help="a run folder with final/")
    command.add_argument("--split", choices=("train", "val", "test"), default="val")
    command.add_argument("words", nargs="*", metavar="key=value", help="override the run's recipe")


def _report(commands) -> None:
    command = commands.add_parser("report", help="write a run on one HTML page: training, metrics, streamed clips")
    command.add_argument("run_folder", type=path_argument, metavar="RUN", help="a run folder")
    command.add_argument("--out", type=path_argument, help="the file to write, otherwise RUN/evaluation/report.html")
    command.set_defaults(run=_run_report)


def _run_report(options: argparse.Namespace) -> None:
    from dst_dist.report.page import write_report

    print(f"written to {write_report(options.run_folder, options.out)}")


def _export(commands) -> None:
    command = commands.add_parser("export", help="write a run's final model with a card, for others and for the hub")
    command.add_argument("run_folder", type=path_argument, metavar="RUN", help="a finished run's folder")
    command.add_argument("--to", type=path_argument, required=True, metavar="DIR", help="a new folder to write")
    command.add_argument("--merge", action="store_true", help="add an adapter to its base, in float32")
    command.add_argument("--push", metavar="NAME", help="upload it to the hub as user/name, private if it is new")
    command.set_defaults(run=_run_export)


def _run_export(options: argparse.Namespace) -> None:
    from dst_dist.logs import set_up_logging
    from dst_dist.publish.export import export_run

    set_up_logging(is_main=True)
    export_run(options.run_folder, options.to, options.merge, options.push)
