"""`dst-dist slurm`: render the sbatch template for a run, keep it with the run, submit it."""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

from dst_dist import config
from dst_dist.errors import ConfigError

TEMPLATE, SITE = Path("slurm/train.sbatch"), Path("slurm/site.sh")


@dataclass(frozen=True)
class Job:
    """What a job asks the cluster for."""

    engine: str = "zero2"
    nodes: int = 1
    processes_per_node: int = 8
    cpus_per_task: int | None = None
    time: str = "24:00:00"
    signal_s: int = 300
    max_requeues: int = 50


def render(job: Job, words: list[str]) -> str:
    """The batch script of a run.

    Args:
        words: recipe and `key=value` words for `dst_dist.train`.

    Raises:
        ConfigError: if the recipe is wrong, or the current folder is not the repository's.
    """
    missing = [str(path) for path in (TEMPLATE, SITE, Path("launch") / f"{job.engine}.yaml") if not path.is_file()]
    if missing:
        raise ConfigError(f"no {', '.join(missing)} here; run it from the repository's root, with one of launch/*.yaml as engine")
    recipe = config.load(words)
    run = Path(recipe.output_dir).absolute()
    resources = [f"#SBATCH --cpus-per-task={job.cpus_per_task}"] if job.cpus_per_task else []
    if not job.engine.startswith("cpu_"):
        resources.append(f"#SBATCH --gpus-per-node={job.processes_per_node}")
    return Template(TEMPLATE.read_text()).substitute(
        job_name=run.name,
        nodes=job.nodes,
        time=job.time,
        signal_s=job.signal_s,
        max_requeues=job.max_requeues,
        resources="\n".join(resources),
        folder=shlex.quote(str(Path.cwd())),
        run=shlex.quote(str(run)),
        engine=job.engine,
        processes=job.processes_per_node,
        words=" ".join(_inside_single_quotes(word) for word in words),
    )


def _inside_single_quotes(word: str) -> str:
    """Quoted for the shell that srun starts, inside the template's single quotes."""
    return shlex.quote(word).replace("'", "'\\''")


def submit(job: Job, words: list[str], dry_run: bool) -> str:
    """Write `<output_dir>/train.sbatch` and hand it to sbatch; with `dry_run` only show both.

    Raises:
        ConfigError: as `render`, or if sbatch refuses.
    """
    script = render(job, words)
    path = Path(config.load(words).output_dir).absolute() / "train.sbatch"
    command = f". {SITE}; exec sbatch {shlex.quote(str(path))}"
    if dry_run:
        return f"{script}\n# submitted by: {command}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    if answer.returncode:
        raise ConfigError(f"sbatch refused {path}: {answer.stderr.strip()}")
    return answer.stdout.strip()
