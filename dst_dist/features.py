"""Encode each frame once: a frozen tower's features are kept in `data.feature_cache` and read in place of frames."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from dst_dist.config import Recipe
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.features import FeatureReader, FeatureStore, Layout
from dst_dist.data.frames import open_frames
from dst_dist.data.images import PIXELS_VERSION
from dst_dist.data.workers import num_workers
from dst_dist.errors import ConfigError, DataError, collect
from dst_dist.file_system import FEATURE_CACHE, try_folder
from dst_dist.files import free_bytes
from dst_dist.logs import logger
from dst_dist.model.adapters import tensor_digest
from dst_dist.model.loading import load_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import active_module, unwrap
from dst_dist.processes import Processes, start_processes
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup

GIB = 2**30


def make_features(words: Sequence[str]) -> None:
    """Encode the frames of all splits of a recipe ahead of training (collective).

    Raises:
        ConfigError, DataError: if the recipe has no `data.feature_cache`, or its data or model cannot be used.
    """
    recipe = load_recipe(words)
    if recipe.data.feature_cache is None:
        raise ConfigError("data.feature_cache is null; name the folder that features are kept in")
    setup = DataSetup(recipe, splits=("train", "val", "test"))
    processes = start_processes()
    datasets = setup.datasets(processes.from_main(setup.check() if processes.is_main else None))
    use_features(processes, recipe, unwrap(load_model(recipe)), datasets)


def use_features(
    processes: Processes,
    recipe: Recipe,
    model: SmolVLMForDST,
    datasets: Mapping[str, SampleDataset],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Let datasets read features; missing ones are encoded first, each process a share of the videos (collective).

    Called before an engine wraps the model. If asked to stop, it returns early and frames stay without features.

    Raises:
        ConfigError: on every process, if the disk has no room for the features, or they cannot be written.
    """
    store = open_store(recipe, model, processes)
    paths = {clip.frames_path for data in datasets.values() for clip in data.clips.index}
    faults: list[str] = []
    todo = collect(faults, lambda: _plan(store, sorted(paths))) if processes.is_main else None
    todo, faults = processes.from_main((todo, faults))
    if faults:
        raise ConfigError(faults)
    own = processes.own_share(todo)
    started_s = time.perf_counter()
    try:
        processes.on_every(lambda: _encode(store, recipe, model, own, processes, should_stop))
    except OSError as error:
        raise ConfigError(f"data.feature_cache: {store.folder} cannot be written: {error}") from error
    if todo:
        elapsed_s, num_frames = time.perf_counter() - started_s, sum(todo.values())
        logger.info(f"encoded {num_frames} frames in {elapsed_s:.0f} s, {num_frames / elapsed_s:.1f} frames/s")
    for data in datasets.values():
        data.reader = FeatureReader(store, absent=data.reader.absent)


def open_store(recipe: Recipe, model: SmolVLMForDST, processes: Processes) -> FeatureStore:
    """Return the recipe's store for this model; its folder is named by the digest of what decides features."""
    behind = not recipe.finetune.train.connector
    shape = model.embedding_shape if behind else model.patch_shape
    layout = Layout(tuple(shape), model.compute_dtype or torch.float32)
    key = processes.from_main(_key(model, behind, layout) if processes.is_main else None)
    return FeatureStore(Path(recipe.data.feature_cache) / key[:16], Path(recipe.data.root), layout)


def _key(model: SmolVLMForDST, behind: bool, layout: Layout) -> str:
    """Return the digest of weights, pixels and layout: whatever changes the features changes it."""
    parts = {"vision": model.model.vision_model}
    if behind:
        parts["connector"] = active_module(model.model.connector)
    weights = [
        tensor_digest(f"{part}.{name}", parameter.detach().cpu())
        for part, module in parts.items()
        for name, parameter in module.named_parameters()
    ]
    shape = [model.config.tokens_per_frame, model.config.scale_factor, model.config.vision_config.to_dict()]
    settings = [PIXELS_VERSION, list(layout.shape), str(layout.dtype), shape, weights]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _plan(store: FeatureStore, paths: Sequence[str]) -> dict[str, int]:
    """Return the frames files to encode with their numbers of rows.

    Raises:
        ConfigError: if something is to be written and the folder does not take it.
    """
    todo, num_unreadable = {}, 0
    for path in paths:
        if not store.is_fresh(path):
            try:
                todo[path] = len(open_frames(path))
            except DataError:
                # Its frames are missing, and are shown as grey ones if the recipe allows it.
                num_unreadable += 1
    if num_unreadable:
        logger.warning("%d frames files cannot be read; they have no features", num_unreadable)
    num_frames, num_fresh = sum(todo.values()), len(paths) - len(todo) - num_unreadable
    needed_gib = num_frames * store.layout.num_bytes / GIB
    if todo or not store.has_grey:
        for clause in try_folder("data.feature_cache", store.folder, FEATURE_CACHE):
            logger.warning("data.feature_cache %s: its file system %s", store.folder, clause)
    free = free_bytes(store.folder)
    free_gib = math.inf if free is None else free / GIB
    logger.info(
        f"features in {store.folder}: {num_fresh} videos are there, {len(todo)} videos ({num_frames} frames) take "
        f"{needed_gib:.2f} GiB more of {free_gib:.1f} GiB free"
    )
    if needed_gib > free_gib:
        remedy = "name a folder with more room, or null to encode frames in every step"
        raise ConfigError(f"data.feature_cache: {needed_gib:.2f} GiB needed, {free_gib:.1f} GiB free; {remedy}")
    return todo


def _encode(
    store: FeatureStore,
    recipe: Recipe,
    model: SmolVLMForDST,
    paths: Sequence[str],
    processes: Processes,
    should_stop: Callable[[], bool],
) -> None:
    """Write the features of some frames files and, on the main process, of a grey frame; encode on the device."""
    behind, size = not recipe.finetune.train.connector, model.config.vision_config.image_size
    parts = model.model.vision_model, model.model.connector
    place = next(model.parameters()).device

    def encode(frames: torch.Tensor) -> torch.Tensor:
        return model.frame_features(frames.to(processes.device), behind).cpu()

    for part in parts:
        part.to(processes.device)
    if processes.is_main:
        store.write_grey(encode, size)
    num_threads = num_workers("auto")
    for path in tqdm(paths, "features", leave=False, unit="video", disable=None if processes.is_main else True):
        if should_stop():
            break
        store.write(path, encode, size, recipe.model.vision_batch_size, num_threads)
    for part in parts:
        part.to(place)
