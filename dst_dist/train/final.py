"""Writes the final model: a Hugging Face folder with the thresholds chosen on validation."""

from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.heads import HEADS, NEVER
from dst_dist.logs import logger
from dst_dist.model.model_files import ModelFiles
from dst_dist.model.saving import save_model, saved_names
from dst_dist.train.description import why_untrained
from dst_dist.train.engine import Engine
from dst_dist.train.held_folder import HeldFolder
from dst_dist.train.resume import Progress


def write_final(
    engine: Engine, recipe: Recipe, run: HeldFolder, data: SampleDataset, start: ModelFiles, progress: Progress
) -> None:
    """Write `final/` (collective).

    The config gets each head's threshold and its share of positives in training. A head that this run did not train
    keeps those of the starting model; one that was never trained gets the threshold NEVER.

    Args:
        data: the training split.
        start: the model that training started from.
        progress: has the thresholds chosen on validation.
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
