"""Runs the largest micro-batches of a run before its first step."""

import torch

from dst_dist.data.batching import MicroBatchSpec
from dst_dist.data.dataset import SampleDataset
from dst_dist.logs import logger
from dst_dist.plan.auto import device_memory
from dst_dist.plan.fit import fit
from dst_dist.plan.micro_batches import largest_micro_batches
from dst_dist.plan.show import memory_lines
from dst_dist.setup import DataSetup
from dst_dist.train.engine import Engine
from dst_dist.train.engine_state import forget_moments
from dst_dist.train.optim import set_rates
from dst_dist.train.progress import peak_memory_gib
from dst_dist.train.step import optimizer_step


def run_largest(engine: Engine, setup: DataSetup, data: SampleDataset) -> None:
    """Train one step of rate 0 on the micro-batches with the most tokens and the most frames (collective).

    Weights stay as they are, and moments are forgotten; the caller sets the random state afterwards.

    Raises:
        RuntimeError: if memory runs out, with the plan of the run.
    """
    recipe = setup.recipe
    largest = largest_micro_batches(data, engine.num_processes, recipe)
    by_tokens, by_frames = largest.draws
    specs = [
        MicroBatchSpec(0, 0, by_tokens, largest.by_tokens.num_frames, is_last=False),
        MicroBatchSpec(0, 0, by_frames, largest.by_frames.num_frames, is_last=True),
    ]
    set_rates(engine.optimizer.param_groups, 0.0)
    counts = data.counts([draw for spec in specs for draw in spec.draws], 0)
    try:
        optimizer_step(engine, recipe, data, map(data.__getitem__, specs), counts)
    except RuntimeError as error:
        if not isinstance(error.__cause__, torch.OutOfMemoryError):
            raise
        config, room = setup.model_files.config, device_memory(engine.device)
        memory = fit(config, engine.launch_file, engine.num_sharing, room, recipe, largest)
        planned = "\n".join(memory_lines(recipe, config, largest, memory))
        raise RuntimeError(f"train.probe: {error}\nThe plan of this run:\n{planned}") from error
    forget_moments(engine)
    logger.info(
        f"train.probe: micro-batches of {largest.by_tokens.num_tokens} tokens and of {largest.by_frames.num_frames} "
        f"frames fit, {peak_memory_gib(engine.device):.2f} GiB at the peak"
    )
