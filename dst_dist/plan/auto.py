"""Replace `auto` in a recipe by numbers, before the model is loaded."""

import os
from functools import partial

import torch

from dst_dist import launched
from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.errors import ConfigError, collect
from dst_dist.logs import logger
from dst_dist.plan.fit import GIB, decide, fit, with_train
from dst_dist.plan.micro_batches import largest_micro_batches
from dst_dist.processes import Processes
from dst_dist.run_folder import RunFolder
from dst_dist.setup import DataSetup

KEYS = ("gradient_checkpointing", "max_tokens")
"""Keys of the section `train` that may be `auto`."""


def decided(
    processes: Processes, engine: str, num_sharing: int, setup: DataSetup, data: SampleDataset, run: RunFolder
) -> Recipe:
    """Return the recipe with numbers in place of `auto`, the same on every process (collective).

    A continued run keeps the choices of its first start, which are in its config.yaml.

    Args:
        engine: one of `states.ENGINES`.
        num_sharing: processes that share what the engine shards.

    Raises:
        ConfigError: on every process, if nothing fits.
    """
    recipe = setup.recipe
    if not any(getattr(recipe.train, key) == "auto" for key in KEYS):
        return recipe
    device_bytes = device_memory(processes.device)
    largest_of = partial(largest_micro_batches, data, processes.num_processes)
    fit_of = partial(fit, setup.model_files.config, engine, num_sharing, device_bytes)

    def choose() -> Recipe:
        kept = _kept(recipe, run)
        chosen = kept or decide(recipe, largest_of, fit_of)
        changed = [key for key in KEYS if getattr(recipe.train, key) == "auto"]
        values = ", ".join(f"{key}: {str(getattr(chosen.train, key)).lower()}" for key in changed)
        how = " as this run's first start chose" if kept else f": chosen for {device_bytes / GIB:.1f} GiB a process"
        logger.info("train.%s%s", values, how)
        return chosen

    faults: list[str] = []
    chosen = collect(faults, choose) if processes.is_main else None
    chosen, faults = processes.from_main((chosen, faults))
    if faults:
        raise ConfigError(faults)
    return chosen


def device_memory(device: torch.device) -> int:
    """Return the bytes of a GPU, or a process's share of the host's memory."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // launched.num_node_processes()


def _kept(recipe: Recipe, run: RunFolder) -> Recipe | None:
    """Return the recipe with the choices of an earlier start of the same run, if there was one."""
    if not run.has_recipe(recipe.model_dump(mode="json")):
        return None
    earlier = run.read_config()["train"]
    choices = {key: earlier[key] for key in KEYS if getattr(recipe.train, key) == "auto"}
    return None if "auto" in choices.values() else with_train(recipe, **choices)
