"""Chooses and writes the final model: a Hugging Face folder with the thresholds chosen on validation."""

from dst_dist.config import Checkpoint, Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.errors import CheckpointError
from dst_dist.heads import HEADS, NEVER
from dst_dist.logs import logger
from dst_dist.model.model_files import ModelFiles
from dst_dist.model.saving import save_model, saved_names
from dst_dist.train.checkpoint import Checkpoints, load, read_training
from dst_dist.train.description import why_untrained
from dst_dist.train.engine import Engine
from dst_dist.train.held_folder import HeldFolder
from dst_dist.train.resume import Progress


def load_chosen(engine: Engine, checkpoints: Checkpoints, wanted: Checkpoint, progress: Progress) -> Progress:
    """Bring the model that `final/` is to be into the engine, and return the progress at its step (collective).

    Raises:
        CheckpointError: if it is the best one and its checkpoint is lost or damaged.
    """
    step, best_step = progress.step, progress.best_step
    if best_step == step:
        return progress
    if wanted.final == "last":
        if best_step:
            logger.info(
                f"final/ is the model of step {step}; {wanted.best} was best at step {best_step}, whose model the same "
                "command with checkpoint.final=best writes"
            )
        return progress
    if not best_step:
        logger.warning(f"checkpoint.final: no evaluation was the best by {wanted.best}; final/ is of the last step")
        return progress
    best = checkpoints.of_step(best_step)
    if faults := checkpoints.faults(best, engine):
        raise CheckpointError(
            f"checkpoint.final: {best}, the best, cannot be used: {'; '.join(faults)}; set it to last for the model of "
            f"step {step}"
        )
    load(best, engine, best_step)
    logger.info(f"final/ is the model of step {best_step}, the best by {wanted.best}; the last step was {step}")
    return Progress(**read_training(best)["progress"])


def write_final(
    engine: Engine, recipe: Recipe, run: HeldFolder, data: SampleDataset, start: ModelFiles, progress: Progress
) -> None:
    """Write `final/` (collective).

    The config gets each head's threshold and its share of positives in training. A head that this run did not train
    keeps those of the starting model; one that was never trained gets the threshold NEVER.

    Args:
        data: the training split.
        start: the model that training started from.
        progress: has the thresholds chosen on validation, as `load_chosen` returned it.
    """
    model, rates = engine.unwrapped, data.positive_rates()
    weights = engine.full_state_dict(saved_names(model))
    if not engine.is_main:
        return
    for head in HEADS:
        stored = progress.thresholds.get(head.name), rates[head.name]
        if why_untrained(recipe, data, head.name):
            stored = getattr(start.config, head.threshold_key, None), getattr(start.config, head.rate_key, None)
            stored = (NEVER, 0.0) if stored == (None, None) else stored
        for key, value in zip((head.threshold_key, head.rate_key), stored, strict=True):
            setattr(model.config, key, value)
    with run.making_final() as folder:
        save_model(model, weights, folder)
        start.save(folder)
    logger.info("saved %s", run.final)
