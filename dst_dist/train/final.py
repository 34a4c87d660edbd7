"""The final model: a Hugging Face folder with the thresholds chosen on validation."""

from transformers import SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.heads import HEADS, NEVER
from dst_dist.logs import logger
from dst_dist.model.model_files import ModelFiles
from dst_dist.model.saving import save_model, saved_names
from dst_dist.train.description import why_untrained
from dst_dist.train.engine import Engine
from dst_dist.train.held_folder import HeldFolder


def write_final(
    engine: Engine,
    recipe: Recipe,
    run: HeldFolder,
    data: SampleDataset,
    model_files: ModelFiles,
    thresholds: dict[str, float],
) -> None:
    """Write `final/` (collective).

    Args:
        data: the training split.
        model_files: of the model that training began with.
        thresholds: chosen on validation, by head; a head may lack one.
    """
    weights = engine.full_state_dict(saved_names(engine.unwrapped))
    if engine.is_main:
        model = engine.unwrapped
        store_decisions(model.config, model_files.config, recipe, data, thresholds)
        with run.making_final() as folder:
            save_model(model, weights, folder)
            model_files.save(folder)
        logger.info("saved %s", run.final)


def store_decisions(
    config: SmolVLMConfig, begun: SmolVLMConfig, recipe: Recipe, data: SampleDataset, thresholds: dict[str, float]
) -> None:
    """Put each head's threshold and its rate in training into the config of the final model.

    A head that this run did not train keeps what the model began with; one that was never trained never decides.
    """
    rates = data.positive_rates()
    for head in HEADS:
        stored = thresholds.get(head.name), rates[head.name]
        if why_untrained(recipe, data, head.name):
            stored = getattr(begun, head.threshold_key, None), getattr(begun, head.rate_key, None)
            stored = (NEVER, 0.0) if stored == (None, None) else stored
        for key, value in zip((head.threshold_key, head.rate_key), stored, strict=True):
            setattr(config, key, value)
