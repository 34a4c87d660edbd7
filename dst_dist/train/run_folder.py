"""The folder of one run: its recipe, how it ended, its logs and its final model."""

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from dst_dist.errors import ConfigError

DONE, FAILED, BAD_USAGE, STOPPED = 0, 1, 2, 85
"""Exit codes of the training process, written to `status.json` too; 85: stopped on request, can continue."""


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
        self._lock = None
        self._is_held_by_other = False

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "train.log"

    @property
    def final(self) -> Path:
        return self.path / "final"

    def lock(self) -> None:
        """Hold the folder for this process until it ends, however it ends.

        Raises:
            ConfigError: if another run holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / ".lock", "a+")
        try:
            # A record lock belongs to this process alone: data workers that outlive it do not keep it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._is_held_by_other = True
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            raise ConfigError(f"output_dir {self.path} is in use by {holder}; choose another output_dir") from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()

    def is_finished(self, recipe_yaml: str) -> bool:
        """Whether this very recipe was trained to its end here."""
        return self.final.is_dir() and self._holds(recipe_yaml)

    def _holds(self, recipe_yaml: str) -> bool:
        return self.config_file.is_file() and yaml.safe_load(self.config_file.read_text()) == yaml.safe_load(recipe_yaml)

    def open(self, recipe_yaml: str) -> Path | None:
        """Write the recipe. What cannot be continued is moved aside, never written over: a finished run of
        another recipe, or one that was cut before its first checkpoint.

        Returns:
            where the earlier run is now, or None.
        """
        moved = None
        can_continue = any((self.path / "checkpoints").glob("step-*")) and not self.final.is_dir()
        if self.config_file.exists() and not can_continue and not self._holds(recipe_yaml):
            moved = self._free_name()
            self.path.rename(moved)
            self.lock()
        if self.metrics_file.exists():
            _drop_cut_line(self.metrics_file)
        if not self.config_file.exists():
            beside = self.path / ".config.yaml"
            beside.write_text(recipe_yaml)
            beside.replace(self.config_file)
        return moved

    def _free_name(self) -> Path:
        number = 1
        while (name := self.path.with_name(f"{self.path.name}.earlier-{number}")).exists():
            number += 1
        return name

    @contextmanager
    def making_final(self) -> Iterator[Path]:
        """A folder to write the final model into; it becomes `final/` when it is whole."""
        beside = self.path / ".final"
        shutil.rmtree(beside, ignore_errors=True)
        yield beside
        shutil.rmtree(self.final, ignore_errors=True)
        beside.rename(self.final)

    def forget_status(self) -> None:
        """Forget how an earlier start ended."""
        self.status_file.unlink(missing_ok=True)

    def write_status(self, code: int, reason: str) -> None:
        """Say how the run ended; whole or not at all. A folder that another run holds is left alone."""
        if self._is_held_by_other and self.status_file.parent == self.path:
            return
        self.status_file.parent.mkdir(parents=True, exist_ok=True)
        beside = self.status_file.with_name(f".{self.status_file.name}.{os.getpid()}")
        beside.write_text(json.dumps({"code": code, "reason": reason, "step": self.step}, indent=2) + "\n")
        beside.replace(self.status_file)


def _drop_cut_line(path: Path) -> None:
    """A process killed while it wrote leaves part of a line; the step is logged again."""
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
