"""Validates during training: reads the split with the gold history, with equally many forwards on every process."""

from collections.abc import Callable
from functools import partial

import numpy as np

from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Limits
from dst_dist.heads import HEADS
from dst_dist.measure.decisions import Metrics
from dst_dist.measure.teacher_forced import TeacherForced
from dst_dist.model.readings import Watched, check_finite, evaluation_specs, join_readings, losses, read_model
from dst_dist.train.engine import Engine
from dst_dist.train.step import forward


def validate(
    engine: Engine,
    recipe: Recipe,
    data: SampleDataset,
    limits: Limits,
    should_stop: Callable[[], bool],
    watched: Watched = iter,
) -> Metrics | None:
    """Return loss terms and metrics of a split, the same on every process, or None if asked to stop (collective).

    A head's threshold is the recipe's, else the best one on these clips.

    Args:
        watched: as in `read_model`.

    Raises:
        NonFiniteError: if an output of the model is not finite.
    """
    engine.model.eval()
    specs = evaluation_specs(data, limits, engine.rank, engine.num_processes, recipe.eval.max_clips)
    model = partial(forward, engine, recipe)
    columns = read_model(model, data, specs, engine.device, recipe.data.num_workers, should_stop, watched=watched)
    if columns is None:
        return None
    columns = join_readings(engine.gather_objects(columns))
    check_finite(columns, data)
    thresholds = {head.name: getattr(recipe.eval, head.threshold_key) for head in HEADS}
    weights = np.ones(len(data.clips.index))
    return engine.from_main(losses(columns, recipe) | TeacherForced(columns, thresholds)(weights))
