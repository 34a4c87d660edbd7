"""The folder of one run: its recipe, how it ended, its logs and its final model."""

import json
import os
import sys
from pathlib import Path

from dst_dist.errors import ConfigError

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
        self._earlier_status: str | None = None

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "train.log"

    @property
    def final(self) -> Path:
        return self.path / "final"

    def forget_status(self) -> None:
        """Remove how an earlier run ended: whoever reads a status while this one runs must not believe it.

        Raises:
            ConfigError: if no run folder can be at this path.
        """
        place = next(place for place in (self.path, *self.path.absolute().parents) if place.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise ConfigError(f"output_dir: {self.path} cannot be written, {place} is no folder that lets you")
        if self.status_file.is_file():
            self._earlier_status = self.status_file.read_text()
            self.status_file.unlink()

    def open(self, recipe_yaml: str) -> Path | None:
        """Make the folder and write the recipe; an earlier run there is moved aside, never written over.

        Returns:
            where the earlier run is now, or None.
        """
        moved = None
        if (self.path / "config.yaml").exists():
            moved = self._free_name()
            self.path.rename(moved)
            if self._earlier_status is not None and self.status_file.parent == self.path:
                (moved / "status.json").write_text(self._earlier_status)
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "config.yaml").write_text(recipe_yaml)
        return moved

    def _free_name(self) -> Path:
        number = 1
        while (name := self.path.with_name(f"{self.path.name}.earlier-{number}")).exists():
            number += 1
        return name

    def write_status(self, code: int, reason: str) -> None:
        """Say how the run ended; whole or not at all.

        The first process to say so is believed: the others fail because it did.
        """
        try:
            self.status_file.parent.mkdir(parents=True, exist_ok=True)
            if self.status_file.exists():
                return
            beside = self.status_file.with_name(f".{self.status_file.name}.{os.getpid()}")
            beside.write_text(json.dumps({"code": code, "reason": reason, "step": self.step}, indent=2) + "\n")
            beside.replace(self.status_file)
        except OSError as error:
            print(f"cannot write {self.status_file}: {error}", file=sys.stderr)
