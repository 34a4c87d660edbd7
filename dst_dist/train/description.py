"""Log what is about to be trained, before the first step."""

from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan
from dst_dist.data.dataset import SampleDataset
from dst_dist.logs import logger
from dst_dist.model.trainable import parameter_groups
from dst_dist.train.engine import Engine


def describe(
    engine: Engine, recipe: Recipe, datasets: dict[str, SampleDataset], plan: BatchPlan, num_steps: int
) -> None:
    """Log model, data and steps, what was corrected or left out of the data, and warnings.

    A head is warned of if it learns nothing, or sees under 5 % of a class and so learns little of it.
    """
    counts = {part: sum(p.numel() for _, p in named) for part, named in parameter_groups(engine.unwrapped).items()}
    trained = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    where = f"{engine.kind} on {engine.num_processes} x {engine.device.type}"
    logger.info(f"{where}, {recipe.train.precision}; trained parameters: {trained}")
    for split, data in datasets.items():
        clips, table = data.clips.index, data.samples
        logger.info(
            f"{split}: {len(clips)} clips of {len(clips.videos())} videos, {len(table)} samples, "
            f"{table['frames'].sum()} frames, {table['tokens'].sum()} tokens, longest {table['tokens'].max()}"
        )
        for note in data.notes:
            logger.info(f"{split}: {note}")
    if "val" not in datasets:
        logger.info("data.val is empty: there is no validation, and the thresholds stay at 0.5")
    for head, (positives, negatives) in datasets["train"].expected_classes().items():
        logger.info(f"{head}: {positives:.0f} positives and {negatives:.0f} negatives an epoch")
        if reason := why_untrained(recipe, datasets["train"], head):
            logger.warning(f"{head}: {reason}, this run does not train the head")
        elif min(positives, negatives) < 0.05 * (positives + negatives):
            rare = "positive" if positives < negatives else "negative"
            logger.warning(f"{head}: under 5 % of its positions are {rare}")
    logger.info(f"{num_steps} steps, {plan.steps_per_epoch} in an epoch")
    if (warmup := recipe.optim.warmup_steps) > num_steps:
        logger.warning(f"optim.warmup_steps {warmup}: the rate never reaches its peak in {num_steps} steps")
    if not any(group["peak_lr"] for group in engine.optimizer.param_groups):
        logger.warning("every learning rate is 0: nothing is learned")


def why_untrained(recipe: Recipe, data: SampleDataset, head: str) -> str | None:
    """Return why a head learns nothing in a run, or None if it learns."""
    if not sum(data.expected_classes()[head]):
        return "no position has a label"
    return None if getattr(recipe.loss, head) else f"loss.{head} is 0"
