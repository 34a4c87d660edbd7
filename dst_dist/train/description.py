"""Logs model, data and steps of a run before the first step, with warnings."""

from dst_dist.config import Recipe
from dst_dist.data.balance import slowest_over_mean
from dst_dist.data.batching import BatchPlan
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Limits
from dst_dist.data.workers import num_cores, num_workers
from dst_dist.logs import logger
from dst_dist.model.attention import square_attention
from dst_dist.model.compiling import why_not_compiled
from dst_dist.model.trainable import parameter_groups, unwrap
from dst_dist.train.engine import Engine

MOST_WAITING = 1.5
"""Work of the slowest process over the mean, above which a run warns."""


def describe(
    engine: Engine, recipe: Recipe, datasets: dict[str, SampleDataset], limits: Limits, plan: BatchPlan, num_steps: int
) -> None:
    """Log model, data and steps, what was corrected or left out of the data, and warnings.

    Warnings name a head that learns nothing, a head with under 5 % of a class, and processes that wait much for the
    slowest.
    """
    counts = {part: sum(p.numel() for _, p in named) for part, named in parameter_groups(engine.unwrapped).items()}
    trained = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    why_plain = why_not_compiled(recipe.train.compile)
    logger.info("text layers are " + (f"not compiled: {why_plain}" if why_plain else "compiled in the first step"))
    where = f"{engine.kind} on {engine.num_processes} x {engine.device.type}"
    logger.info(f"{where}, {recipe.train.precision}; trained parameters: {trained}")
    longest = int(datasets["train"].samples["tokens"].max())
    config = unwrap(engine.unwrapped).config
    if costly := square_attention(config, recipe.train.precision, longest, engine.device.type):
        logger.warning(costly)
    checkpointing = "on" if recipe.train.gradient_checkpointing else "off"
    logger.info(
        f"micro-batches of at most {recipe.train.max_tokens} tokens and {recipe.train.max_frames} frames, "
        f"gradient checkpointing {checkpointing}"
    )
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
    if recipe.data.num_workers == "auto":
        logger.info(f"data.num_workers: auto is {num_workers('auto')} for each process, of {num_cores()} cores here")
    logger.info(f"{num_steps} steps, {plan.steps_per_epoch} in an epoch")
    _warn_of_waiting(engine.num_processes, recipe, datasets["train"], limits, plan)
    if (warmup := recipe.optim.warmup_steps) > num_steps:
        logger.warning(f"optim.warmup_steps {warmup}: the rate never reaches its peak in {num_steps} steps")
    if not any(group["peak_lr"] for group in engine.optimizer.param_groups):
        logger.warning("every learning rate is 0: nothing is learned")


def _warn_of_waiting(num_processes: int, recipe: Recipe, data: SampleDataset, limits: Limits, plan: BatchPlan) -> None:
    """Log a warning, with the keys to change, if the slowest process has far more work than the mean."""
    ratio = slowest_over_mean(plan, data, limits, num_processes)
    if ratio > MOST_WAITING:
        logger.warning(
            f"processes wait: the slowest has {ratio:.1f} times the mean work, with {recipe.train.global_batch_size} "
            f"samples a step on {num_processes} processes; set train.global_batch_size higher, or data.max_seq_len "
            f"below {data.samples['tokens'].max()}, the tokens of the longest sample, to cut long clips finer"
        )


def why_untrained(recipe: Recipe, data: SampleDataset, head: str) -> str | None:
    """Return why a head learns nothing in a run, or None if it learns."""
    if not sum(data.expected_classes()[head]):
        return "no position has a label"
    return None if getattr(recipe.loss, head) else f"loss.{head} is 0"
