"""A run folder as evaluation needs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dst_dist import config
from dst_dist.data.dataset import SampleDataset
from dst_dist.errors import ConfigError
from dst_dist.evaluate.metrics import THRESHOLD_KEYS, UNTRAINED
from dst_dist.evaluate.processes import Processes
from dst_dist.logs import logger
from dst_dist.model.finetune import ADAPTER_CONFIG, load_for_inference
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.prepare import DataSetup


@dataclass
class FinishedRun:
    """A run's recipe, its final model ready to be used, and one split of its data (None if none was asked for), on one
    of several processes."""

    recipe: config.Recipe
    model: SmolVLMForDST
    setup: DataSetup
    data: SampleDataset | None
    num_videos_trained_on: int | None
    """Of the split's videos; None if the run does not say which it was trained on, or the split is `train`."""
    processes: Processes

    @classmethod
    def open(cls, run_folder: Path, split: str | None, overrides: Sequence[str] = ()) -> "FinishedRun":
        """Read a run folder, and say what was corrected, left out or replaced in the split (collective where several
        processes were launched).

        Args:
            overrides: of the run's recipe. `model.name_or_path` is where an adapter's base is now.

        Raises:
            ConfigError: if the run has no final model, or its recipe names no such split, or `overrides` another model
                than a full one.
            DataError: if the split's data cannot be used.
        """
        final = run_folder / "final"
        if not (run_folder / "config.yaml").is_file() or not final.is_dir():
            raise ConfigError(f"{run_folder}: not a finished run, it should hold config.yaml and final/")
        if (run_folder / ".goes-on").exists():
            raise ConfigError(f"{run_folder}: goes on with another recipe, final/ is of the earlier one; wait until it is done")
        base = _named_base(run_folder, overrides)
        recipe = config.load([str(run_folder / "config.yaml"), *overrides, f"model.name_or_path={final}"])
        if split is not None and not getattr(recipe.data, split):
            raise ConfigError(f"data.{split} is empty in {run_folder}/config.yaml; add data.{split}=[...]")
        setup = DataSetup(recipe, splits=() if split is None else (split,), base=base)
        processes = Processes.start()
        data = setup.datasets(processes.from_main(setup.check() if processes.is_main else None)).get(split)
        num_trained_on = None
        if data is not None:
            # Of the training split too, evaluation counts every negative.
            data.negative_rate = 1.0
            for note in data.notes:
                logger.info("%s: %s", split, note)
            num_trained_on = None if split == "train" else _count_trained_on(run_folder, split, data)
        model = load_for_inference(final, base).to(processes.device)
        model.compute_dtype = torch.bfloat16 if recipe.train.precision == "bf16" else None
        model.vision_batch_size = recipe.model.vision_batch_size
        run = cls(recipe, model, setup, data, num_trained_on, processes)
        run._warn_of_untrained_heads()
        return run

    def _warn_of_untrained_heads(self) -> None:
        for head in (head for head, key in THRESHOLD_KEYS.items() if getattr(self.model.config, key) == UNTRAINED):
            decides = "at random" if self.thresholds[head] < UNTRAINED else "nothing"
            logger.warning("%s: the head was never trained, it decides %s (threshold %g)", head, decides, self.thresholds[head])

    @property
    def thresholds(self) -> dict[str, float]:
        """By head: the recipe's, else the one stored with the model, else 0.5."""
        places = self.recipe.eval, self.model.config
        given = {head: [getattr(place, key) for place in places] for head, key in THRESHOLD_KEYS.items()}
        return {head: next((value for value in values if value is not None), 0.5) for head, values in given.items()}

    @property
    def training_rates(self) -> dict[str, float] | None:
        """By head, the share of positives in training; None of a model that does not say."""
        rates = {"dst_update": self.model.config.dst_update_rate, "speaking": self.model.config.speaking_rate}
        return None if None in rates.values() else rates


def _named_base(run_folder: Path, overrides: Sequence[str]) -> str | None:
    """What `overrides` name as `model.name_or_path` in place of the run's: the base of its adapter."""
    recipe_file, final = str(run_folder / "config.yaml"), run_folder / "final"
    named = config.load([recipe_file, *overrides]).model.name_or_path
    if named == config.load([recipe_file]).model.name_or_path:
        return None
    if not (final / ADAPTER_CONFIG).is_file():
        raise ConfigError(f"model.name_or_path: {final} holds a full model, which {named} cannot replace; leave this setting out")
    return named


def _count_trained_on(run_folder: Path, split: str, data: SampleDataset) -> int | None:
    """Of the split's videos, and a warning if there are any."""
    file = run_folder / "train_videos.txt"
    if not file.is_file():
        logger.warning("%s: not there, so nobody knows whether videos of data.%s were trained on", file, split)
        return None
    videos = {clip.video for clip in data.clips.index}
    both = sorted(videos & set(file.read_text().splitlines()))
    if both:
        logger.warning("%s: %d of %d videos were trained on, for example %s", split, len(both), len(videos), both[0])
    return len(both)
