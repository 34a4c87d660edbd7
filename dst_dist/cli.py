"""`dst-dist`: the commands beside training. A verb is one function that declares its arguments and one that runs it."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dst_dist.build.verbs import declare_build, declare_frames
from dst_dist.errors import ConfigError, DstDistError
from dst_dist.exit import BAD_USAGE, DONE, let_leader_speak
from dst_dist.launched import is_main
from dst_dist.paths import path_argument
from dst_dist.recipes.verbs import declare_explain, declare_recipe, declare_schema


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code, 2 for the user's fault, and after `train` the training's own."""
    options = parse(arguments)
    try:
        code = options.run(options)
    except DstDistError as error:
        let_leader_speak()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return BAD_USAGE
    return code or DONE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line; words of a recipe may stand before and after options. SystemExit(2) on bad usage."""
    parser = argparse.ArgumentParser(prog="dst-dist", description="Commands beside training.")
    commands = parser.add_subparsers(required=True, metavar="command")
    verbs = [
        _demo,
        declare_build,
        declare_frames,
        _train,
        declare_recipe,
        declare_explain,
        declare_schema,
        _plan,
        _bench,
        _features,
    ]
    for declare in [*verbs, _evaluate, _stream, _report, _export, _slurm]:
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
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--blank", action="store_true", help="make every frame grey: what is learned without looking")
    command.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> None:
    from dst_dist.demo.make import make_demo
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main=True)
    make_demo(options.out, seed=options.seed, blank=options.blank)
    print(f"made {options.out}")


def _train(commands) -> None:
    command = commands.add_parser("train", help="print the accelerate launch line that fits this machine, and run it")
    command.add_argument("words", nargs="+", metavar="recipe", help="recipes, then key=value")
    command.add_argument("--engine", help="a file of launch/, without its ending; otherwise what fits the machine")
    command.add_argument("--processes", type=_count, help="over all nodes; otherwise one for each GPU")
    command.add_argument("--nodes", type=_count, default=1, help="run the same command on each")
    command.add_argument("--node-rank", type=int, help="this node's number, from 0")
    command.add_argument("--main-address", help="name or address of the node with --node-rank 0")
    command.add_argument(
        "--allow-changed", action="append", default=[], metavar="KEY", help="resume although it differs"
    )
    command.set_defaults(run=_run_train)


def _run_train(options: argparse.Namespace) -> int:
    from dst_dist.start import Launch, start_training

    places = options.nodes, options.node_rank, options.main_address
    return start_training(options.words, Launch(options.engine, options.processes, *places), options.allow_changed)


def _plan(commands) -> None:
    command = commands.add_parser("plan", help="say what a recipe will take: steps, memory by part, whether it fits")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--engine", default="zero2", help="a file of launch/, without its ending")
    command.add_argument("--processes", type=_count, default=8)
    command.add_argument("--processes-per-node", type=_count, default=8, help="GPUs of a node")
    command.add_argument("--gpu-gib", type=float, default=80, help="memory of a process's GPU")
    command.add_argument("--tokens-per-s", type=float, help="rate of one process, from an earlier run's log")
    command.set_defaults(run=_run_plan)


def _run_plan(options: argparse.Namespace) -> None:
    from dst_dist.plan.show import Machine, plan_lines

    machine = Machine(
        options.engine, options.processes, options.gpu_gib, options.processes_per_node, options.tokens_per_s
    )
    for line in plan_lines(options.words, machine):
        print(line, flush=True)


def _bench(commands) -> None:
    command = commands.add_parser("bench", help="train a few steps of a recipe, and say how fast and where time goes")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--steps", type=_count, default=20, help="optimizer steps to time")
    command.add_argument("--synthetic", action="store_true", help="full micro-batches of random tokens and frames")
    command.add_argument(
        "--trace", type=path_argument, metavar="FILE", help="write the profiler's trace, for ui.perfetto.dev"
    )
    command.set_defaults(run=_run_bench)


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word}: say a whole number from 1")
    return int(word)


def _run_bench(options: argparse.Namespace) -> None:
    from dst_dist.bench.show import bench_lines
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main())
    for line in bench_lines(options.words, options.steps, options.synthetic, options.trace):
        print(line, flush=True)


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
    # `| head` ends it without a word.
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


def _slurm(commands) -> None:
    command = commands.add_parser("slurm", help="render the sbatch script of a run, keep it with the run, submit it")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--engine", default="zero2", help="a file of launch/, without its ending")
    command.add_argument("--nodes", type=int, default=1)
    command.add_argument("--processes-per-node", type=int, default=8, help="GPUs of a node")
    command.add_argument("--cpus-per-node", type=int, help="otherwise one for each process and each data worker")
    command.add_argument("--time", default="24:00:00", help="limit of one start; the job is queued again until done")
    command.add_argument("--signal-s", type=int, default=300, help="seconds before the limit to save and stop at")
    command.add_argument("--max-requeues", type=int, default=50)
    command.add_argument(
        "--allow-changed", action="append", default=[], metavar="KEY", help="go on although this differs"
    )
    command.add_argument("--dry-run", action="store_true", help="show the script and submit nothing")
    command.set_defaults(run=_run_slurm)


def _run_slurm(options: argparse.Namespace) -> None:
    from dst_dist.slurm import Job, submit

    job = Job(**{name: getattr(options, name) for name in Job.__dataclass_fields__})
    print(submit(job, options.words, options.allow_changed, options.dry_run))
