"""The folder of one run: its recipe, how it ended, its logs and its final model."""

import json
import os
from pathlib import Path

DONE, FAILED, BAD_USAGE = 0, 1, 2
"""Exit codes of the training process, written to `status.json` too."""


class RunFolder:
    """Paths and small files of a run.

    Args:
        path: `output_dir` of the recipe.
        status_file: where `status.json` goes instead, for scripts that must read it before there is a folder.
    """

    def __init__(self, path: Path, status_file: Path | None = None):
        self.path = path
        self.status_file = status_file or path / "status.json"
        self.step = 0

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "train.log"

    @property
    def final(self) -> Path:
        return self.path / "final"

    def open(self, recipe_yaml: str) -> Path | None:
        """Make the folder and write the recipe; an earlier run there is moved aside, never written over.

        Returns:
            where the earlier run is now, or None.
        """
        moved = None
        if (self.path / "config.yaml").exists():
            moved = self._free_name()
            self.path.rename(moved)
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "config.yaml").write_text(recipe_yaml)
        return moved

    def _free_name(self) -> Path:
        number = 1
        while (name := self.path.with_name(f"{self.path.name}.earlier-{number}")).exists():
            number += 1
        return name

    def write_status(self, code: int, reason: str) -> None:
        """Say how the run ended; whole or not at all."""
        self.status_file.parent.mkdir(parents=True, exist_ok=True)
        beside = self.status_file.with_name(f".{self.status_file.name}.{os.getpid()}")
        beside.write_text(json.dumps({"code": code, "reason": reason, "step": self.step}, indent=2) + "\n")
        beside.replace(self.status_file)
