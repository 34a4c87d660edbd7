"""Verbs of `dst-dist` that take a recipe: look at it, plan it, time it, train it."""

import argparse

from dst_dist.arguments import above_zero, gpu_gib, whole
from dst_dist.launched import is_main
from dst_dist.paths import path_argument


def declare_train(commands) -> None:
    command = commands.add_parser("train", help="print the accelerate launch line that fits this machine, and run it")
    command.add_argument("words", nargs="+", metavar="recipe", help="recipes, then key=value")
    command.add_argument("--engine", help="a file of launch/, without its ending; otherwise what fits the machine")
    command.add_argument("--processes", type=whole(1), help="over all nodes; otherwise one for each GPU")
    command.add_argument("--nodes", type=whole(1), default=1, help="run the same command on each")
    command.add_argument("--node-rank", type=whole(0), help="this node's number, from 0")
    command.add_argument("--main-address", help="name or address of the node with --node-rank 0")
    command.add_argument(
        "--allow-changed", action="append", default=[], metavar="KEY", help="resume although it differs"
    )
    command.set_defaults(run=_run_train)


def _run_train(options: argparse.Namespace) -> int:
    from dst_dist.start import Launch, start_training

    places = options.nodes, options.node_rank, options.main_address
    return start_training(options.words, Launch(options.engine, options.processes, *places), options.allow_changed)


def declare_recipe(commands) -> None:
    command = commands.add_parser("recipe", help="print a packaged recipe with its comments, to copy and edit")
    command.add_argument("name", help="its name; --help of `python -m dst_dist.train` lists them")
    command.set_defaults(run=_run_recipe)


def _run_recipe(options: argparse.Namespace) -> None:
    from dst_dist.recipes.keys import copy_of

    print(copy_of(options.name), end="")


def declare_explain(commands) -> None:
    command = commands.add_parser("explain", help="say what a key or a section of the recipe decides")
    command.add_argument("key", help="for example train.max_tokens, or optim")
    command.set_defaults(run=_run_explain)


def _run_explain(options: argparse.Namespace) -> None:
    from dst_dist.recipes.keys import explain

    print(explain(options.key))


def declare_schema(commands) -> None:
    command = commands.add_parser("schema", help="print the JSON schema of a recipe, for editors")
    command.set_defaults(run=_run_schema)


def _run_schema(options: argparse.Namespace) -> None:
    from dst_dist.recipes.keys import schema

    print(schema(), end="")


def declare_plan(commands) -> None:
    command = commands.add_parser("plan", help="say what a recipe will take: steps, memory by part, whether it fits")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--engine", default="zero2", help="a file of launch/, without its ending")
    command.add_argument("--processes", type=whole(1), default=8)
    command.add_argument("--processes-per-node", type=whole(1), default=8, help="GPUs of a node")
    command.add_argument("--gpu", type=gpu_gib, default=80, metavar="80GB", help="memory of a process's GPU")
    command.add_argument("--tokens-per-s", type=above_zero, help="rate of one process, from an earlier run's log")
    command.set_defaults(run=_run_plan)


def _run_plan(options: argparse.Namespace) -> None:
    from dst_dist.plan.show import Machine, plan_lines

    machine = Machine(options.engine, options.processes, options.gpu, options.processes_per_node, options.tokens_per_s)
    for line in plan_lines(options.words, machine):
        print(line, flush=True)


def declare_bench(commands) -> None:
    command = commands.add_parser("bench", help="train a few steps of a recipe, and say how fast and where time goes")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--steps", type=whole(1), default=20, help="optimizer steps to time")
    command.add_argument("--synthetic", action="store_true", help="full micro-batches of random tokens and frames")
    command.add_argument(
        "--trace", type=path_argument, metavar="FILE", help="write the profiler's trace, for ui.perfetto.dev"
    )
    command.set_defaults(run=_run_bench)


def _run_bench(options: argparse.Namespace) -> None:
    from dst_dist.bench.show import bench_lines
    from dst_dist.logs import set_up_logging

    set_up_logging(is_main())
    for line in bench_lines(options.words, options.steps, options.synthetic, options.trace):
        print(line, flush=True)


def declare_slurm(commands) -> None:
    command = commands.add_parser("slurm", help="render the sbatch script of a run, keep it with the run, submit it")
    command.add_argument("words", nargs="+", metavar="recipe", help="as for training: recipes, then key=value")
    command.add_argument("--engine", default="zero2", help="a file of launch/, without its ending")
    command.add_argument("--nodes", type=whole(1), default=1)
    command.add_argument("--processes-per-node", type=whole(1), default=8, help="GPUs of a node")
    command.add_argument("--cpus-per-node", type=whole(1), help="otherwise one for each process and each data worker")
    command.add_argument("--time", default="24:00:00", help="limit of one start; the job is queued again until done")
    command.add_argument("--signal-s", type=whole(1), default=300, help="seconds before the limit to save and stop at")
    command.add_argument("--max-requeues", type=whole(0), default=50)
    command.add_argument(
        "--allow-changed", action="append", default=[], metavar="KEY", help="go on although this differs"
    )
    command.add_argument("--dry-run", action="store_true", help="show the script and submit nothing")
    command.set_defaults(run=_run_slurm)


def _run_slurm(options: argparse.Namespace) -> None:
    from dst_dist.slurm import Job, submit

    job = Job(**{name: getattr(options, name) for name in Job.__dataclass_fields__})
    print(submit(job, options.words, options.allow_changed, options.dry_run))
