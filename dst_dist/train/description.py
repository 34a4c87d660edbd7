"""The description of a run in the log before its first step."""

from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan
from dst_dist.data.dataset import SampleDataset
from dst_dist.logs import logger
from dst_dist.model.trainable import parameter_groups
from dst_dist.train.engine import Engine


def describe(
    engine: Engine, recipe: Recipe, datasets: dict[str, SampleDataset], plan: BatchPlan, num_steps: int
) -> None:
    """Log what is trained, and everything about the data that was corrected or left out."""
    counts = {part: sum(p.numel() for _, p in named) for part, named in parameter_groups(engine.unwrapped).items()}
    trained = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    logger.info("%s, %s; trained parameters: %s", engine.name, recipe.train.precision, trained)
    for split, data in datasets.items():
        table = data.samples
        videos = len({clip.video for clip in data.clips.index})
        logger.info(
            "%s: %d clips of %d videos, %d samples, %d frames, %d tokens, longest %d",
            split,
            len(data.clips.index),
            videos,
            len(table),
            table["frames"].sum(),
            table["tokens"].sum(),
            table["tokens"].max(),
        )
        for note in data.notes:
            logger.info("%s: %s", split, note)
    if "val" not in datasets:
        logger.info("data.val is empty: there is no validation, and the thresholds stay at 0.5")
    warn_of_rare_classes(recipe, datasets["train"])
    logger.info("%d steps, %d in an epoch", num_steps, plan.steps_per_epoch)
    if recipe.optim.warmup_steps > num_steps:
        logger.warning(
            "optim.warmup_steps %d: the rate never reaches its peak in %d steps", recipe.optim.warmup_steps, num_steps
        )
    if not any(group["peak_lr"] for group in engine.param_groups):
        logger.warning("every learning rate is 0: nothing is learned")


def warn_of_rare_classes(recipe: Recipe, data: SampleDataset) -> None:
    """Log each head's classes, and warn of a head that sees under 5 % of a class or is not trained."""
    for head, (positives, negatives) in data.expected_classes().items():
        logger.info("%s: %.0f positives and %.0f negatives an epoch", head, positives, negatives)
        total = positives + negatives
        if reason := why_untrained(recipe, data, head):
            logger.warning("%s: %s, this run does not train the head", head, reason)
        elif min(positives, negatives) < 0.05 * total:
            logger.warning(
                "%s: under 5 %% of its positions are %s", head, "positive" if positives < negatives else "negative"
            )


def why_untrained(recipe: Recipe, data: SampleDataset, head: str) -> str | None:
    """Return why a run does not train a head, or None if it does."""
    if not sum(data.expected_classes()[head]):
        return "no position has a label"
    return None if getattr(recipe.loss, head) else f"loss.{head} is 0"
