"""Replace `auto` in a recipe by numbers, before the model is loaded."""

import os
from functools import partial
from pathlib import Path

import torch
import yaml

from dst_dist import launched
from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Limits
from dst_dist.errors import ConfigError
from dst_dist.logs import logger
from dst_dist.plan.fit import GIB, Fit, decide, fit, with_train
from dst_dist.plan.micro_batches import Largest, largest_micro_batches
from dst_dist.processes import Processes
from dst_dist.run_folder import recipe_differences
from dst_dist.setup import DataSetup

KEYS = ("gradient_checkpointing", "max_tokens")
"""Keys of the section `train` that may be `auto`."""


def decided(
    processes: Processes, engine: str, num_sharing: int, setup: DataSetup, data: SampleDataset, config_file: Path
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
    recipe, fault = processes.from_main(
        _decide(recipe, processes, engine, num_sharing, setup, data, config_file) if processes.is_main else None
    )
    if fault is not None:
        raise ConfigError(fault)
    return recipe


def _decide(
    recipe: Recipe,
    processes: Processes,
    engine: str,
    num_sharing: int,
    setup: DataSetup,
    data: SampleDataset,
    config_file: Path,
) -> tuple[Recipe, str | None]:
    kept = _kept(recipe, config_file)
    if kept is not None:
        logger.info("train.%s as this run's first start chose", _chosen(recipe, kept))
        return kept, None
    device_bytes = device_memory(processes.device)
    measure = partial(memory_of, setup, engine, num_sharing, device_bytes)
    try:
        chosen = decide(recipe, partial(largest_of, setup, data, processes.num_processes), measure)
    except ConfigError as error:
        return recipe, str(error)
    logger.info("train.%s: chosen for %.1f GiB a process", _chosen(recipe, chosen), device_bytes / GIB)
    return chosen, None


def largest_of(setup: DataSetup, data: SampleDataset, num_processes: int, recipe: Recipe) -> Largest:
    """Return the largest micro-batches of a recipe with a number for `train.max_tokens`."""
    plan = BatchPlan(data.weights, recipe.train.global_batch_size, recipe.seed, data.fingerprint)
    return largest_micro_batches(data, plan, Limits(recipe.train.max_tokens, setup.limits.frames), num_processes)


def memory_of(
    setup: DataSetup, engine: str, num_sharing: int, device_bytes: int, recipe: Recipe, largest: Largest
) -> Fit:
    """Return the memory of a process under a recipe without `auto`; `num_sharing` as in `decided`."""
    return fit(recipe, setup.model_files.config, engine, num_sharing, largest, device_bytes)


def device_memory(device: torch.device) -> int:
    """Return the bytes of a GPU, or a process's share of the host's memory."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // launched.num_node_processes()


def _kept(recipe: Recipe, config_file: Path) -> Recipe | None:
    """Return the recipe with the choices of an earlier start of the same run, if there was one."""
    if not config_file.is_file():
        return None
    earlier = yaml.safe_load(config_file.read_text())
    if recipe_differences(earlier, recipe.model_dump(mode="json")):
        return None
    choices = {key: earlier["train"][key] for key in KEYS if getattr(recipe.train, key) == "auto"}
    return None if "auto" in choices.values() else with_train(recipe, **choices)


def _chosen(recipe: Recipe, chosen: Recipe) -> str:
    changed = [key for key in KEYS if getattr(recipe.train, key) == "auto"]
    return ", ".join(f"{key}: {str(getattr(chosen.train, key)).lower()}" for key in changed)
