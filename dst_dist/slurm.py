"""`dst-dist slurm`: render the sbatch template for a run, keep it with the run, submit it."""

import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder, recipe_differences
from dst_dist.train.held_folder import check_start_model

TEMPLATE, SITE = Path("slurm/train.sbatch"), Path("slurm/site.sh")
EARLY_S = 60
"""Slurm's signal before the limit may come so much earlier than asked for."""


@dataclass(frozen=True)
class Job:
    """What a run asks the cluster for.

    Attributes:
        engine: a file of `launch/`, without its ending.
        processes_per_node: GPUs of a node; processes, with a `cpu_` engine.
        cpus_per_node: None for one for each process and each of its data workers.
        time: limit of one start, in Slurm's words.
        signal_s: seconds before the limit at which the run is asked to save and stop.
        max_requeues: how often the job may be started again.
    """

    engine: str = "zero2"
    nodes: int = 1
    processes_per_node: int = 8
    cpus_per_node: int | None = None
    time: str = "24:00:00"
    signal_s: int = 300
    max_requeues: int = 50


def render(job: Job, words: list[str], recipe: Recipe) -> str:
    """The batch script of a run.

    Args:
        words: recipes, `key=value` words and options for `dst_dist.train`.
        recipe: what they say.

    Raises:
        ConfigError: if the current folder is not the repository's, or the job asks for nothing.
    """
    _check(job)
    run = Path(recipe.output_dir).absolute()
    values = {
        # The name first, for squeue; the whole, because jobs of the same name wait for each other.
        "job_name": f"{run.name} of {run.parent}",
        "nodes": job.nodes,
        "cpus_per_node": job.cpus_per_node or job.processes_per_node * (1 + recipe.data.num_workers),
        "time": job.time,
        "signal_s": job.signal_s,
        "job_log": _slurm_pattern(run, "slurm.log"),
        "node_log": _slurm_pattern(run, "node-%n.log"),
        "run": run,
        "engine": job.engine,
        "processes_per_node": job.processes_per_node,
        "max_requeues": job.max_requeues,
        "folder": Path.cwd(),
    }
    texts = {name: shlex.quote(str(value)) for name, value in values.items()}
    texts["words"] = shlex.join(words)
    texts["gpus"] = "" if job.engine.startswith("cpu_") else f"#SBATCH --gpus-per-node={job.processes_per_node}\n"
    return re.sub(r"\{\{(\w+)\}\}", lambda found: texts[found[1]], TEMPLATE.read_text())


def _check(job: Job) -> None:
    needed = (TEMPLATE, SITE, Path("launch") / f"{job.engine}.yaml")
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        raise ConfigError(
            f"no {', '.join(missing)} here; run it from the repository's root, with one of launch/*.yaml as engine"
        )
    if min(job.nodes, job.processes_per_node) < 1:
        raise ConfigError("a job needs at least one node, and one process on each")
    limit_s = time_limit_s(job.time)
    if limit_s is not None and limit_s <= job.signal_s + EARLY_S:
        raise ConfigError(
            f"--time {job.time} is not well above the {job.signal_s} s of --signal-s: each start would be asked to stop "
            "before its first step; give it more --time or a smaller --signal-s"
        )


def time_limit_s(time: str) -> int | None:
    """What sbatch makes of a `--time`, in whole minutes as there; None for no limit, and for what sbatch will refuse."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", time):
        return None
    days, _, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    # A number alone is minutes, after days it is hours; two are minutes and seconds, after days hours and minutes.
    hours, minutes, seconds = ([0, *parts, 0] if not days and len(parts) < 3 else [*parts, 0, 0])[:3]
    total_minutes = (int(days or 0) * 24 + hours) * 60 + minutes + -(-seconds // 60)
    return total_minutes * 60 or None


def _slurm_pattern(folder: Path, name: str) -> str:
    """A log file for Slurm, which reads `%` in a path as a pattern."""
    return f"{folder}/".replace("%", "%%") + name


def check_folder(run: RunFolder, recipe: Recipe, allowed: list[str]) -> None:
    """Raises ConfigError if the folder holds a run that this one could not continue; a job would learn it hours later.

    Args:
        allowed: keys that may differ, from `--allow-changed`, where there is a checkpoint to go on from.
    """
    if not run.config_file.is_file():
        return
    differences = recipe_differences(run.read_config(), recipe.model_dump(mode="json"))
    refused = {key: text for key, text in differences.items() if not run.has_checkpoint or key not in allowed}
    if refused:
        ways = ["choose another output_dir", "or move it"]
        if run.has_checkpoint:
            ways = ["choose another output_dir", "move it", f"or add {shlex.join(allow_words(refused))}"]
        raise ConfigError([*refused.values(), f"{run.path} holds another run: {', '.join(ways)}"])


def allow_words(keys: Iterable[str]) -> list[str]:
    """Keys that may differ, as words for `dst_dist.train`."""
    return [word for key in keys for word in ("--allow-changed", key)]


def submit(job: Job, words: list[str], allowed: list[str], dry_run: bool) -> str:
    """Write `<output_dir>/train.sbatch` and hand it to sbatch; with `dry_run` only show both.

    Args:
        words: recipes and `key=value` words.
        allowed: keys that may differ from the run so far.

    Raises:
        ConfigError: if the recipe or the job is wrong, the folder is another run's, or sbatch refuses.
    """
    recipe = load_recipe(words)
    run = RunFolder(Path(recipe.output_dir).absolute())
    check_folder(run, recipe, allowed)
    check_start_model(recipe.model.name_or_path, run.path)
    script = render(job, [*words, *allow_words(allowed)], recipe)
    path = run.path / "train.sbatch"
    command = f". {SITE}; exec sbatch {shlex.quote(str(path))}"
    if dry_run:
        return f"{script}\n# would be written to {path} and submitted by: {command}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    if answer.returncode:
        raise ConfigError(f"sbatch refused {path}: {answer.stderr.strip()}")
    return f"{answer.stdout.strip()}; logs in {path.parent}/slurm.log and node-*.log"
