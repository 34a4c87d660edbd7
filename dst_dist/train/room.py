"""Checks that the disk has room for the checkpoints and the model of a run."""

import math

from dst_dist.errors import ConfigError
from dst_dist.files import free_bytes
from dst_dist.logs import logger
from dst_dist.model.saving import saved_names
from dst_dist.train.checkpoint import Checkpoints
from dst_dist.train.engine import Engine
from dst_dist.train.engine_state import KINDS, trained_shapes

BYTES_A_VALUE = 4 * len(KINDS)
"""Bytes of a trained value in a checkpoint, in float32."""
GIB = 2**30


def check_room(engine: Engine, checkpoints: Checkpoints) -> None:
    """Log a warning if the checkpoints that are kept, the one being written and `final/` do not all fit.

    For the main process, before the first step; other users of the disk are not considered.

    Raises:
        ConfigError: if not even one checkpoint fits.
    """
    free = free_bytes(checkpoints.run.path)
    if free is None:
        return
    save = BYTES_A_VALUE * sum(map(math.prod, trained_shapes(engine).values()))
    if free < save:
        raise ConfigError(
            f"output_dir: a checkpoint takes {save / GIB:.2f} GiB, {checkpoints.run.path} has {free / GIB:.2f} GiB "
            "free; make room, or name a folder on another disk"
        )
    model, names = engine.unwrapped, saved_names(engine.unwrapped)
    final = sum(one.numel() * one.element_size() for name, one in model.state_dict().items() if name in names)
    # The newest, the best, and the one that is written before an old one goes.
    most = checkpoints.keep + 2
    wanted = max(1, most - len(checkpoints.existing())) * save + final
    if free < wanted:
        logger.warning(
            f"output_dir: up to {most} checkpoints and final/ take {wanted / GIB:.2f} GiB more, {checkpoints.run.path} "
            f"has {free / GIB:.2f} GiB free; if it fills up, the run stops and the same command continues"
        )
