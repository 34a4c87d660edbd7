"""Continue a run where it was cut: its progress, and whether it is still the same run."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.heads import HEAD_NAMES
from dst_dist.logs import logger
from dst_dist.metrics import METRICS
from dst_dist.model.adapters import tensor_digest
from dst_dist.model.model_files import ModelFiles
from dst_dist.run_folder import recipe_differences
from dst_dist.train.checkpoint import Checkpoints, load, read_training
from dst_dist.train.engine import Engine


@dataclass
class Progress:
    """State of a run besides weights, moments and random numbers."""

    step: int = 0
    """Optimizer steps done; the place in the batch plan follows from it."""
    evaluated_step: int = 0
    best_by: str = ""
    """Metric and clips that choose the best checkpoint."""
    best_value: float | None = None
    best_step: int = 0
    num_since_best: int = 0
    """Evaluations."""
    thresholds: dict[str, float] = field(default_factory=dict)

    def note_evaluation(self, metrics: dict[str, float], best_metric: str) -> bool:
        """Remember an evaluation at this step; return whether it is the best so far.

        Raises:
            ConfigError: if there is no such metric.
        """
        metric = METRICS[best_metric]
        if best_metric not in metrics and not (metric.needs_decisions and _is_measured(best_metric, metrics)):
            raise ConfigError(f"checkpoint.best: no metric val/{best_metric}; there are {', '.join(sorted(metrics))}")
        self.evaluated_step, self.num_since_best = self.step, self.num_since_best + 1
        self.thresholds = {head: metrics[f"{head}/threshold"] for head in HEAD_NAMES if f"{head}/threshold" in metrics}
        value = metrics.get(best_metric)
        if value is None:
            return False
        if self.best_value is not None and not _is_better(value, self.best_value, metric.less_is_better):
            return False
        self.best_value, self.best_step, self.num_since_best = value, self.step, 0
        return True

    def compare_by(self, what: str) -> None:
        """Forget the best so far if it was chosen by another metric or other clips."""
        if self.best_step and self.best_by != what:
            logger.warning(
                "the best so far, of step %d, was measured by %s and now it is %s: it is chosen anew",
                self.best_step,
                self.best_by,
                what,
            )
            self.best_value, self.best_step, self.num_since_best = None, 0, 0
        self.best_by = what


WHAT = {
    "dataset": "the training data: its clips, which of their frames are there, the sizes of the frames files",
    "samples": "how clips are cut: by data.max_seq_len, train.max_tokens, train.max_frames and the tokenizer",
    "model": "the model's config and tokenizer",
    "frozen": "the frozen base weights",
    "engine": "the way to train on several processes",
}
"""What must be the same beside the recipe."""


def _is_measured(metric: str, metrics: dict[str, float]) -> bool:
    """Return whether the metric's head is measured, though it decides nothing yet."""
    return f"{metric.rpartition('/')[0]}/threshold" in metrics


def _is_better(value: float, than: float, less_is_better: bool) -> bool:
    return value < than if less_is_better else value > than


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to continue."""

    recipe: dict[str, Any]
    dataset: str
    samples: str
    model: str
    frozen: str
    engine: str

    def differences(self, saved: dict[str, Any]) -> dict[str, str]:
        """Return key -> what it was and is, for keys of the recipe and of WHAT."""
        found = recipe_differences(saved["recipe"], self.recipe)
        for key, what in WHAT.items():
            # Other clips are cut otherwise too.
            if saved[key] != getattr(self, key) and not (key == "samples" and "dataset" in found):
                found[key] = f"{key} ({what}) was {saved[key][:20]} and is {getattr(self, key)[:20]}"
        return found


def identify(recipe: Recipe, data: SampleDataset, model: ModelFiles, frozen: str, engine: Engine) -> Identity:
    return Identity(
        recipe.model_dump(mode="json"), **data.digests(), model=model.digest, frozen=frozen, engine=engine.kind
    )


def best_by(recipe: Recipe, validation: SampleDataset | None) -> str:
    """Return in words which metric, on which clips, chooses the best checkpoint."""
    clips = "no clips" if validation is None else f"the clips {validation.digests()['dataset'][:8]}"
    most = recipe.eval.max_clips
    return f"{recipe.checkpoint.best} on {clips if most is None else f'{most} of {clips}'}"


def to_training(identity: Identity, progress: Progress, engine: Engine) -> dict[str, Any]:
    """Return the content of a checkpoint's `training.json`."""
    return {"progress": asdict(progress), "num_processes": engine.num_processes, **asdict(identity)}


def resume(engine: Engine, checkpoints: Checkpoints, identity: Identity, allowed: list[str]) -> Progress:
    """Load the newest good checkpoint, if there is one, and return the run's progress (collective).

    Args:
        allowed: keys that may differ, from `--allow-changed`.

    Raises:
        CheckpointError: naming everything that differs and is not allowed to.
    """
    path = checkpoints.newest_valid(engine)
    if path is None:
        return Progress()
    saved = read_training(path)
    lacking = {"shapes", *WHAT} - saved.keys()
    if lacking:
        raise CheckpointError(
            f"{path}: an earlier version of dst_dist wrote it, without {', '.join(sorted(lacking))}; continue with that "
            "version, or use another output_dir"
        )
    different = identity.differences(saved)
    check_allowed(path, different, allowed)
    progress = Progress(**saved["progress"])
    load(path, engine, progress.step)
    engine.on_main(lambda: checkpoints.link_again(path, progress.best_step))
    logger.info("continued from %s, written by %d processes with %s", path, saved["num_processes"], saved["engine"])
    for text in different.values():
        logger.warning("allowed to differ from the run so far: %s", text)
    return progress


def check_allowed(path: Path, different: dict[str, str], allowed: list[str]) -> None:
    """Raise CheckpointError for every difference that is not allowed."""
    refused = [text for key, text in different.items() if key not in allowed]
    if refused:
        keys = " ".join(f"--allow-changed {key}" for key in different if key not in allowed)
        raise CheckpointError([*refused, f"{path} is of another run: use another output_dir, or add {keys}"])


def frozen_digest(engine: Engine, model: nn.Module) -> str:
    """Return a digest of the frozen weights, which are in no checkpoint; each process reads a share (collective).

    Called before the engine wraps the model, while every process has all of it.
    """
    frozen = [(name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad]
    own = [tensor_digest(name, parameter.detach()) for name, parameter in frozen[engine.rank :: engine.num_processes]]
    return hashlib.sha256("".join(sorted(sum(engine.gather_objects(own), []))).encode()).hexdigest()
