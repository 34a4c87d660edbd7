"""`dst-dist slurm` fills in the sbatch template for a run, writes it to the run folder and submits it."""

import re
import shlex
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder, recipe_differences
from dst_dist.train.held_folder import check_start_model

TEMPLATE, SITE, WITH_SITE = (Path("slurm", name) for name in ("train.sbatch", "site.sh", "with_site.sh"))
AUTO_WORKERS = 4
"""Data workers that a job asks CPUs for with `data.num_workers: auto`, which then counts the CPUs of the job."""
EARLY_S = 60
"""Slurm may send the signal before the time limit up to this many seconds earlier than asked for."""


@dataclass(frozen=True)
class Job:
    """A run's request to the cluster. Each field is an option of `dst-dist slurm` and a name in the template.

    Attributes:
        engine: a file of `launch/`, without its ending.
        processes_per_node: GPUs of a node; processes, with a `cpu_` engine.
        cpus_per_node: None for one for each process and each of its data workers.
        time: limit of one start, in Slurm's notation.
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


def submit(job: Job, words: list[str], allowed: list[str], dry_run: bool) -> str:
    """Write `<output_dir>/train.sbatch` and hand it to sbatch; with `dry_run` only return both as text.

    Args:
        words: recipes and `key=value` words.
        allowed: keys that may differ from the run so far.

    Raises:
        ConfigError: if the recipe or the job is wrong, the folder holds another run, or sbatch fails.
    """
    recipe = load_recipe(words)
    run = RunFolder(Path(recipe.output_dir).absolute())
    _check_job(job)
    _check_folder(run, recipe, allowed)
    check_start_model(recipe.model.name_or_path, run.path)
    # The job and the training must mean one folder, also where `~` or `$NAME` is another one on the nodes.
    named = f"output_dir={run.path}"
    words = words if named in words else [*words, named]
    script = _render(job, [*words, *_allow_words(allowed)], recipe, run.path)
    path = run.path / "train.sbatch"
    command = ["bash", str(WITH_SITE), "sbatch", str(path)]
    if dry_run:
        return f"{script}\n# would be written to {path} and submitted by: {shlex.join(command)}"
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output_dir: {run.path} cannot be written: {error.strerror}") from error
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise ConfigError(f"sbatch refused {path}: {answer.stderr.strip()}")
    return f"{answer.stdout.strip()}; logs in {run.path}/slurm.log and node-*.log"


def _check_job(job: Job) -> None:
    """Raise ConfigError if this is not the repository's root, or the job could never make a step."""
    missing = [
        str(path) for path in (TEMPLATE, SITE, WITH_SITE, Path(f"launch/{job.engine}.yaml")) if not path.is_file()
    ]
    if missing:
        raise ConfigError(
            f"no {', '.join(missing)} here; run it from the repository's root, with one of launch/*.yaml as engine"
        )
    limit_s = time_limit_s(job.time)
    if limit_s is not None and limit_s <= job.signal_s + EARLY_S:
        raise ConfigError(
            f"--time {job.time} is not well above the {job.signal_s} s of --signal-s: each start would be asked to "
            "stop before its first step; give it more --time or a smaller --signal-s"
        )


def time_limit_s(time: str) -> int | None:
    """Return the seconds of a `--time`, rounded up to minutes as sbatch does; None for no limit or a malformed one."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", time):
        return None
    days, _, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    # A number alone is minutes, after days it is hours; two are minutes and seconds, after days hours and minutes.
    hours, minutes, seconds = ([0, *parts, 0] if not days and len(parts) < 3 else [*parts, 0, 0])[:3]
    total_minutes = (int(days or 0) * 24 + hours) * 60 + minutes + -(-seconds // 60)
    return total_minutes * 60 or None


def _check_folder(run: RunFolder, recipe: Recipe, allowed: list[str]) -> None:
    """Raise ConfigError if the folder holds a run that this one could not continue: the job would fail hours later.

    Only a run with a checkpoint can be continued with keys that differ.
    """
    if not run.config_file.is_file():
        return
    differences = recipe_differences(run.read_config(), recipe.model_dump(mode="json"))
    refused = {key: text for key, text in differences.items() if not run.has_checkpoint or key not in allowed}
    if refused:
        add = f", or add {shlex.join(_allow_words(list(refused)))}" if run.has_checkpoint else ""
        raise ConfigError(
            [*refused.values(), f"{run.path} holds another run: choose another output_dir, or move it{add}"]
        )


def _allow_words(keys: list[str]) -> list[str]:
    return [word for key in keys for word in ("--allow-changed", key)]


def _render(job: Job, words: list[str], recipe: Recipe, run: Path) -> str:
    """Return the template with every name in double braces filled in, quoted for bash."""
    num_workers = AUTO_WORKERS if recipe.data.num_workers == "auto" else recipe.data.num_workers
    values = asdict(job) | {
        # The name first, for squeue; with the whole path, because jobs of the same name wait for each other.
        "job_name": f"{run.name} of {run.parent}",
        "cpus_per_node": job.cpus_per_node or job.processes_per_node * (1 + num_workers),
        # Slurm reads `%` in a log's path as a pattern.
        "job_log": f"{run}/slurm.log".replace("%", "%%"),
        "node_log": f"{run}/".replace("%", "%%") + "node-%n.log",
        "run": run,
        "folder": Path.cwd(),
    }
    texts = {name: shlex.quote(str(value)) for name, value in values.items()}
    texts["words"] = shlex.join(words)
    texts["gpus"] = "" if job.engine.startswith("cpu_") else f"#SBATCH --gpus-per-node={job.processes_per_node}\n"
    return re.sub(r"\{\{(\w+)\}\}", lambda found: texts[found[1]], TEMPLATE.read_text(encoding="utf-8"))
