"""Validation in the loop: the split read with the gold history, equally many forwards on every process."""

from collections.abc import Callable

import numpy as np

from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Limits
from dst_dist.heads import HEADS
from dst_dist.measure.decisions import Metrics
from dst_dist.measure.teacher_forced import TeacherForced
from dst_dist.model.readings import check_finite, evaluation_specs, join_readings, losses, read_model
from dst_dist.train.engine import Engine
from dst_dist.train.step import forward


def validate(
    engine: Engine, recipe: Recipe, data: SampleDataset, limits: Limits, should_stop: Callable[[], bool]
) -> Metrics | None:
    """Return loss terms and metrics of a split, the same on every process, or None if asked to stop (collective).

    A threshold that the recipe leaves open is the best one on these clips.

    Raises:
        NonFiniteError: if the model says what is not a number.
    """
    engine.model.eval()
    specs = evaluation_specs(data, limits, engine.rank, engine.num_processes, recipe.eval.max_clips)
    num_workers = recipe.data.num_workers
    columns = read_model(
        lambda batch: forward(engine, recipe, batch), data, specs, engine.device, num_workers, should_stop
    )
    if columns is None:
        return None
    columns = join_readings(engine.gather_objects(columns))
    check_finite(columns, data)
    thresholds = {head.name: getattr(recipe.eval, head.threshold_key) for head in HEADS}
    weights = np.ones(len(data.clips.index))
    return engine.from_main(losses(columns, recipe) | TeacherForced(columns, thresholds)(weights))
