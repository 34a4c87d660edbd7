"""Resumes a run: loads its progress, and checks that a checkpoint belongs to the same run."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.images import PIXELS_VERSION
from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.heads import HEAD_NAMES
from dst_dist.logs import logger
from dst_dist.metrics import METRICS
from dst_dist.model.adapters import tensor_digest
from dst_dist.model.compiling import why_not_compiled
from dst_dist.model.model_files import ModelFiles
from dst_dist.run_folder import recipe_differences
from dst_dist.train.checkpoint import Checkpoints, load, read_training
from dst_dist.train.engine import Engine

IDENTITY = {
    "dataset": "the training data: its clips, which of their frames are there, the sizes of the frames files",
    "samples": "how clips are cut: by data.max_seq_len, train.max_tokens, train.max_frames and the tokenizer",
    "pixels": "how frames become pixels: the decoder, and the filter that resizes",
    "model": "the model's config and tokenizer",
    "frozen": "the frozen base weights",
    "engine": "the way to train on several processes",
    "layers": "whether text layers are compiled, which rounds differently",
}
"""Properties that must stay the same in a continued run, as the recipe; `--allow-changed` takes their names."""


@dataclass
class Progress:
    """The state of a run except weights, moments and random state."""

    step: int = 0
    """Optimizer steps done; the place in the batch plan follows from it."""
    evaluated_step: int = 0
    best_by: str = ""
    """Metric and clips that choose the best checkpoint."""
    best_value: float | None = None
    best_step: int = 0
    num_since_best: int = 0
    """Evaluations since the best one."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Thresholds by head, chosen in the last evaluation."""

    def note_evaluation(self, metrics: dict[str, float], best_metric: str) -> bool:
        """Record an evaluation at this step and return whether it is the best so far.

        Raises:
            ConfigError: if there is no such metric.
        """
        metric, value = METRICS[best_metric], metrics.get(best_metric)
        # The metric of a head that is measured but does not decide anything yet may come later.
        may_come = metric.needs_decisions and f"{best_metric.rpartition('/')[0]}/threshold" in metrics
        if value is None and not may_come:
            raise ConfigError(f"checkpoint.best: no metric val/{best_metric}; there are {', '.join(sorted(metrics))}")
        self.evaluated_step, self.num_since_best = self.step, self.num_since_best + 1
        self.thresholds = {head: metrics[f"{head}/threshold"] for head in HEAD_NAMES if f"{head}/threshold" in metrics}
        if value is None:
            return False
        sign = -1 if metric.less_is_better else 1
        if self.best_value is not None and not sign * value > sign * self.best_value:
            return False
        self.best_value, self.best_step, self.num_since_best = value, self.step, 0
        return True

    def compare_by(self, recipe: Recipe, validation: SampleDataset | None) -> None:
        """Set metric and clips that evaluations are compared by; a best one by others is dropped with a warning."""
        clips = "no clips" if validation is None else f"the clips {validation.digests()['dataset'][:8]}"
        if recipe.eval.max_clips is not None:
            clips = f"{recipe.eval.max_clips} of {clips}"
        best_by = f"{recipe.checkpoint.best} on {clips}"
        if self.best_step and self.best_by != best_by:
            logger.warning(
                f"the best so far, of step {self.best_step}, was measured by {self.best_by} and now it is {best_by}: "
                "it is chosen anew"
            )
            self.best_value, self.best_step, self.num_since_best = None, 0, 0
        self.best_by = best_by


def identify(recipe: Recipe, data: SampleDataset, model: ModelFiles, frozen: str, engine: Engine) -> dict[str, Any]:
    """Return what must stay the same in a continued run: the recipe, and a text for each key of IDENTITY."""
    texts = {"pixels": PIXELS_VERSION, "model": model.digest, "frozen": frozen, "engine": engine.kind}
    texts["layers"] = "plain" if why_not_compiled(recipe.train.compile) else "compiled"
    return {"recipe": recipe.model_dump(mode="json"), **data.digests(), **texts}


def resume(engine: Engine, checkpoints: Checkpoints, identity: dict[str, Any], allowed: list[str]) -> Progress:
    """Load the newest good checkpoint, if there is one (collective).

    Args:
        allowed: keys that may differ, from `--allow-changed`.

    Raises:
        CheckpointError: naming everything that differs and is not allowed to.
    """
    path = checkpoints.newest_valid(engine)
    if path is None:
        return Progress()
    saved = read_training(path)
    if missing := {"shapes", *IDENTITY} - saved.keys():
        raise CheckpointError(
            f"{path}: an earlier version of dst_dist wrote it, without {', '.join(sorted(missing))}; "
            "go on with that version, or use another output_dir"
        )
    different = differences(saved, identity)
    if refused := {key: text for key, text in different.items() if key not in allowed}:
        keys = " ".join(f"--allow-changed {key}" for key in refused)
        raise CheckpointError([*refused.values(), f"{path} is of another run: use another output_dir, or add {keys}"])
    progress = Progress(**saved["progress"])
    load(path, engine, progress.step)
    engine.on_main(lambda: checkpoints.link_again(path, progress.best_step))
    logger.info("continued from %s, written by %d processes with %s", path, saved["num_processes"], saved["engine"])
    for text in different.values():
        logger.warning("allowed to differ from the run so far: %s", text)
    return progress


def differences(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Return key -> message with both values; the key is one of the recipe or of IDENTITY."""
    found = recipe_differences(saved["recipe"], now["recipe"])
    for key, what in IDENTITY.items():
        # Other clips are also cut in another way.
        if saved[key] != now[key] and not (key == "samples" and "dataset" in found):
            found[key] = f"{key} ({what}) was {saved[key][:20]} and is {now[key][:20]}"
    return found


def frozen_digest(engine: Engine, model: nn.Module) -> str:
    """Return a digest of the frozen weights, which no checkpoint contains; each process reads a share (collective).

    Called before the engine wraps the model, while every process has all of it.
    """
    frozen = [(name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad]
    own = [tensor_digest(name, parameter.detach()) for name, parameter in frozen[engine.rank :: engine.num_processes]]
    return hashlib.sha256("".join(sorted(sum(engine.gather_objects(own), []))).encode()).hexdigest()
