"""Names and reads the files of a run folder, for training, evaluation and report."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

FREE_KEYS = (
    "output_dir",
    "log",
    "eval",
    "checkpoint",
    "data.root",
    "data.feature_cache",
    "data.num_workers",
    "data.index_cache",
    "data.check",
    "data.val",
    "data.test",
    "train.max_tokens",
    "train.max_frames",
    "train.gradient_checkpointing",
    "train.probe",
    "train.compile",
    "model.vision_batch_size",
)
"""Recipe keys that may differ in a resumed run: they change what is logged or how sums are grouped.

For `train.compile` its effect on the machine is compared, see `dst_dist.train.resume.IDENTITY`.
"""

REPLACED = "measured on weights that final/ has replaced since; evaluate the run again"
"""Why a result is left out."""


class RunFolder:
    """Paths in a run folder, which need not exist yet.

    Args:
        path: `output_dir` of the recipe.
    """

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.trackers_file = path / "trackers.json"
        """Name of the run in each tracker, so that a continued run goes on in it."""
        self.log_file = path / "train.log"
        self.videos_file = path / "train_videos.txt"
        self.status_file = path / "status.json"
        self.stop_file = path / "STOP"
        self.lock_file = path / ".lock"
        self.goes_on_file = path / ".goes-on"
        """Exists while a finished run is continued with another recipe; until its end `final/` is the earlier one's."""
        self.final = path / "final"
        self.checkpoints = path / "checkpoints"
        self.evaluation = path / "evaluation"
        self.report_file = self.evaluation / "report.html"

    def result_file(self, split: str, kind: str) -> Path:
        """Return the file of an evaluation; `kind` is `teacher_forced` or `streaming`."""
        return self.evaluation / f"{split}-{kind}.json"

    def clips_file(self, split: str) -> Path:
        """Return the file of streamed clips, one JSON object a line."""
        return self.evaluation / f"{split}-streaming-clips.jsonl"

    def weights_digest(self) -> str | None:
        """Return what identifies the weights in `final/`; None if there are none, or by a version that did not say."""
        file = self.final / "config.json"
        return json.loads(file.read_text(encoding="utf-8")).get("weights_digest") if file.is_file() else None

    def has_weights_of(self, measured_on: Mapping[str, Any]) -> bool:
        """Return whether `final/` still holds the weights that a result, by its `measured_on`, was measured on."""
        return measured_on.get("weights") == self.weights_digest()

    @property
    def is_over(self) -> bool:
        """Whether the run is finished, and is not being continued with another recipe."""
        return self.final.is_dir() and not self.goes_on_file.exists()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from; it may be damaged."""
        return any(not path.suffix for path in self.checkpoints.glob("step-*"))

    def has_recipe(self, recipe: dict[str, Any]) -> bool:
        """Return whether the folder's run has this recipe, except for FREE_KEYS."""
        return self.config_file.is_file() and not recipe_differences(self.read_config(), recipe)

    def has_final_of(self, recipe: dict[str, Any]) -> bool:
        """Return whether the run is over, has this recipe except for FREE_KEYS, and `final/` is the model it names."""
        if not self.is_over or not self.has_recipe(recipe):
            return False
        return flat(self.read_config()).get("checkpoint.final", "last") == recipe["checkpoint"]["final"]

    def read_config(self) -> dict[str, Any]:
        """Return the recipe of the folder's run."""
        return yaml.safe_load(self.config_file.read_text(encoding="utf-8"))

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the metrics, oldest first; those that cannot be read are left out."""
        if self.metrics_file.exists():
            with open(self.metrics_file, encoding="utf-8") as file:
                for line in file:
                    with suppress(ValueError):
                        yield json.loads(line)

    def steps_done(self) -> int:
        """Return the optimizer steps done, the last in the metrics; 0 without any."""
        return max((line["step"] for line in self.metrics()), default=0)


def recipe_differences(was: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Return key -> message with both values, for every key that differs and is not in FREE_KEYS."""
    was, now = flat(was), flat(now)
    return {
        key: f"{key} was {was.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key) and not any(key == free or key.startswith(free + ".") for free in FREE_KEYS)
    }


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `section.key` -> value."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
