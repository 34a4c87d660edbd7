"""Opens a finished run for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dst_dist import config
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import SampleMaker
from dst_dist.errors import ConfigError
from dst_dist.features import use_features
from dst_dist.heads import HEADS, NEVER
from dst_dist.logs import logger
from dst_dist.model.adapters import read_adapter_config, read_settings
from dst_dist.model.attention import square_attention
from dst_dist.model.loading import load_for_inference
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.processes import Processes, start_processes
from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder, recipe_differences
from dst_dist.setup import DataSetup

FIXED = ("model.tokens_per_frame", "finetune.")
"""Beginnings of the recipe's keys that a trained model is fixed by; an override of one is refused."""


@dataclass
class FinishedRun:
    """A run's recipe, its final model, and one split of its data, on one of several processes.

    Attributes:
        split: None if only the model is used.
        data: None without a split.
        weights: what identifies the weights in `final/`, as in `RunFolder.weights_digest`.
        num_videos_trained_on: videos of the split that were trained on; None if unknown, or if the split is `train`.
    """

    folder: RunFolder
    split: str | None
    recipe: config.Recipe
    model: SmolVLMForDST
    setup: DataSetup
    data: SampleDataset | None
    weights: str | None
    processes: Processes
    num_videos_trained_on: int | None

    @classmethod
    def open(cls, run_folder: Path, split: str | None, overrides: Sequence[str] = ()) -> "FinishedRun":
        """Read a run folder, and log what was corrected, left out or replaced in the split (collective).

        Args:
            overrides: `key=value` words for the run's recipe; `model.name_or_path` is where its adapter's base is.

        Raises:
            ConfigError: if the run has no final model, its recipe names no such split, or `overrides` name another
                model in place of a full one, or set what `final/` was made with to something else.
            DataError: if the split's data cannot be used.
        """
        folder = RunFolder(run_folder)
        if not folder.config_file.is_file() or not folder.final.is_dir():
            raise ConfigError(f"{run_folder}: not a finished run, it should hold config.yaml and final/")
        if not folder.is_over:
            raise ConfigError(
                f"{run_folder}: goes on with another recipe, final/ is of the earlier one; wait until it is done"
            )
        was, now = (load_recipe([str(folder.config_file), *words]) for words in ((), overrides))
        _refuse_what_final_contradicts(folder, was, now)
        if any(word.startswith("output_dir=") for word in overrides):
            logger.warning("output_dir is not used here: what is written goes to %s", folder.path)
        base = _named_base(folder.final, was.model.name_or_path, now.model.name_or_path)
        recipe = load_recipe([str(folder.config_file), *overrides, f"model.name_or_path={folder.final}"])
        if split is not None and not getattr(recipe.data, split):
            raise ConfigError(f"data.{split} is empty in {folder.config_file}; add data.{split}=[...]")
        setup = DataSetup(recipe, splits=() if split is None else (split,), base=base, training_rate=1.0)
        processes = start_processes()
        data = setup.datasets(processes.from_main(setup.check() if processes.is_main else None)).get(split)
        # Read before the weights: a training that replaces them meanwhile makes the result one of an earlier model.
        weights = folder.weights_digest()
        model = load_for_inference(folder.final, base).to(processes.device)
        if recipe.train.precision == "bf16":
            model.compute_dtype = torch.bfloat16
            _round_frozen_parts(model, recipe)
        model.vision_batch_size = recipe.model.vision_batch_size
        most = setup.maker().limits.tokens
        if costly := square_attention(model.config, recipe.train.precision, most, processes.device.type):
            logger.warning(costly)
        num_trained_on = _count_trained_on(folder, split, data)
        run = cls(folder, split, recipe, model, setup, data, weights, processes, num_trained_on)
        for head in (head for head in HEADS if getattr(model.config, head.threshold_key) == NEVER):
            threshold = run.thresholds[head.name]
            decides = "what it decides means nothing" if threshold < NEVER else "it decides nothing"
            logger.warning("%s: the head was never trained, %s (threshold %g)", head.name, decides, threshold)
        return run

    def use_features(self) -> None:
        """Read kept features in place of the split's frames, if the recipe names a feature cache (collective)."""
        if self.recipe.data.feature_cache is not None:
            use_features(self.processes, self.recipe, self.model, {self.split: self.data})

    def check_for_streaming(self) -> None:
        """Raise ConfigError if a stream's contexts grow longer than the model's positions."""
        self.setup.check_context(self.setup.maker().limits.tokens, "a stream fills contexts of")
        if self.recipe.data.frames == "event":
            logger.warning(
                "the model learned from the frames of turns alone (data.frames: event); a stream shows it every frame"
            )

    @property
    def stream_settings(self) -> tuple[SampleMaker, dict[str, float], str]:
        """Arguments of a `Stream` after its task."""
        return self.setup.maker(), self.thresholds, self.recipe.eval.on_full_context

    @property
    def thresholds(self) -> dict[str, float]:
        """Return the threshold of each head: the recipe's, else the one stored with the model, else 0.5."""
        places = self.recipe.eval, self.model.config
        given = {head.name: [getattr(place, head.threshold_key) for place in places] for head in HEADS}
        return {head: next((value for value in values if value is not None), 0.5) for head, values in given.items()}

    @property
    def training_rates(self) -> dict[str, float] | None:
        """Share of positives in training by head; None if the model has no record of it."""
        rates = {head.name: getattr(self.model.config, head.rate_key) for head in HEADS}
        return None if None in rates.values() else rates


def _round_frozen_parts(model: SmolVLMForDST, recipe: config.Recipe) -> None:
    """Round tower and connector to bfloat16 where they were frozen, as in training."""
    trained = recipe.finetune.train
    for module, is_trained in ((model.model.vision_model, trained.vision), (model.model.connector, trained.connector)):
        if not is_trained:
            module.to(torch.bfloat16)


def _refuse_what_final_contradicts(folder: RunFolder, before: config.Recipe, after: config.Recipe) -> None:
    """Raise ConfigError with every override of FIXED keys: it would change the model's inputs, and not the model."""
    was, now = before.model_dump(mode="json"), after.model_dump(mode="json")
    final = read_settings(str(folder.final)).get("tokens_per_frame")
    if final is not None and now["model"]["tokens_per_frame"] != final:
        was["model"]["tokens_per_frame"] = final
    faults = [
        f"{text}: {folder.final} was made with the former, so leave this setting out"
        for key, text in recipe_differences(was, now).items()
        if key.startswith(FIXED)
    ]
    if faults:
        raise ConfigError(faults)


def _named_base(final: Path, was: str, named: str) -> str | None:
    """Return the `model.name_or_path` named in place of the run's, the base of its adapter; None if none is."""
    if named == was:
        return None
    if read_adapter_config(final) is None:
        raise ConfigError(
            f"model.name_or_path: {final} holds a full model, which {named} cannot replace; leave this setting out"
        )
    return named


def _count_trained_on(folder: RunFolder, split: str | None, data: SampleDataset | None) -> int | None:
    """Log the notes on a split's data, and return how many of its videos were trained on (see `FinishedRun`)."""
    for note in data.notes if data is not None else ():
        logger.info("%s: %s", split, note)
    file = folder.videos_file
    if split in (None, "train"):
        return None
    if not file.is_file():
        logger.warning("%s: missing, so it is unknown which videos of data.%s were trained on", file, split)
        return None
    videos = set(data.clips.index.videos())
    both = sorted(videos & set(file.read_text(encoding="utf-8").split("\n")))
    if both:
        logger.warning("%s: %d of %d videos were trained on, for example %s", split, len(both), len(videos), both[0])
    return len(both)
