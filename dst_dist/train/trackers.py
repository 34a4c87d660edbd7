"""Logs to trackers besides `metrics.jsonl`: each has one run with one value a step, however often training was cut.

A step that was undone is trained again. TensorBoard drops its earlier values. Other trackers keep them, and do not get
the step again.
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from dst_dist.config import Recipe
from dst_dist.files import write_whole
from dst_dist.run_folder import RunFolder, flat
from dst_dist.train.engine import Engine

PROJECT = "dst_dist"
TENSORBOARD = "tensorboard"


class Trackers:
    """The trackers of `log.report_to`, on the main process only.

    Args:
        start_step: optimizer steps done when this start began.
    """

    def __init__(self, engine: Engine, run: RunFolder, recipe: Recipe, start_step: int):
        self._trackers: list[Any] = []
        self._seen: dict[str, int] = defaultdict(int)
        """Last step that an earlier start logged, by split."""
        if engine.is_main:
            for line in run.metrics():
                self._seen[line["split"]] = max(self._seen[line["split"]], line["step"])
            self._open(engine, run, recipe, start_step)

    def _open(self, engine: Engine, run: RunFolder, recipe: Recipe, start_step: int) -> None:
        """Begin the tracked runs with their name and the recipe, or continue those in the run folder's file."""
        name, keys = run.path.absolute().name, _read_keys(run, set(recipe.log.report_to) - {TENSORBOARD})
        engine.accelerator.init_trackers(PROJECT, init_kwargs=_settings(name, run, start_step, keys))
        self._trackers = engine.accelerator.trackers
        for tracker in self._trackers:
            # trackio empties a run's configuration when the run goes on.
            if tracker.name == "trackio" or tracker.name not in {TENSORBOARD, *keys}:
                tracker.store_init_configuration(flat(recipe.model_dump(mode="json")))
                keys[tracker.name] = tracker.tracker.info.run_id if tracker.name == "mlflow" else keys["id"]
            if tracker.name == "comet_ml":
                tracker.tracker.set_name(name)
        if keys.keys() - {"id"}:
            _write_keys(run, keys)

    def log(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Log the values of a step to TensorBoard, and to other trackers if they do not have the step."""
        prefix = "" if split == "train" else f"{split}/"
        named = {f"{prefix}{key}": value for key, value in values.items()}
        for tracker in self._trackers:
            if tracker.name == TENSORBOARD or step > self._seen[split]:
                tracker.log(named, step=step)


def _read_keys(run: RunFolder, trackers: set[str]) -> dict[str, str]:
    """Return the names of the tracked runs from the run folder; a new `id` is written before a tracker gets it."""
    if run.trackers_file.is_file():
        return json.loads(run.trackers_file.read_text(encoding="utf-8"))
    keys = {"id": secrets.token_hex(16)}
    if trackers:
        _write_keys(run, keys)
    return keys


def _write_keys(run: RunFolder, keys: dict[str, str]) -> None:
    write_whole(run.trackers_file, json.dumps(keys, indent=2) + "\n")


def _settings(name: str, run: RunFolder, start_step: int, keys: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the settings that each tracker is opened with.

    Args:
        keys: `id`, by which trackers that let us choose it find their run again, and mlflow's own.
    """
    return {
        TENSORBOARD: {"purge_step": start_step + 1},
        "wandb": {"name": name, "id": keys["id"], "resume": "allow", "dir": str(run.path)},
        "mlflow": {"run_name": name, "run_id": keys.get("mlflow")},
        "comet_ml": {"experiment_key": keys["id"], "mode": "get_or_create"},
        # It knows runs by their names alone.
        "trackio": {"name": f"{name}-{keys['id'][:8]}", "resume": "allow"},
    }
