"""The folder of one run: its recipe, how it ended, its logs and its final model."""

import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dst_dist.errors import ConfigError

DONE, FAILED, BAD_USAGE, STOPPED = 0, 1, 2, 85
"""Exit codes of the training process, written to `status.json` too; 85: stopped on request, can continue."""

FREE_KEYS = (
    "output_dir", "log", "eval", "checkpoint", "data.root", "data.num_workers", "data.val", "data.test",
    "train.max_tokens", "train.max_frames", "train.gradient_checkpointing", "model.vision_batch_size",
)  # fmt: skip
"""Recipe keys that may differ after a cut: they decide what is seen of a run, or how its sums are grouped."""


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
        self.is_held = False
        """Whether this process knows that its run holds the folder: the main process by its lock, others from it."""
        self._is_refused = False
        """Whether this start cannot have the folder, but may say so where it was told to."""
        self._earlier_status: str | None = None

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

    @property
    def stop_file(self) -> Path:
        return self.path / "STOP"

    @property
    def _goes_on_file(self) -> Path:
        """Stands while a finished run goes on with another recipe: `final/` is the earlier one's until the new one is."""
        return self.path / ".goes-on"

    def lock(self) -> None:
        """Hold the folder for this process until it ends, however it ends.

        Raises:
            ConfigError: if another run holds it, or it cannot be written.
        """
        self.is_held = False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a+")
        except OSError as error:
            self._is_refused = not self._status_is_inside
            raise ConfigError(f"output_dir: {self.path} cannot be written: {error.strerror}") from error
        try:
            # A record lock belongs to this process alone: data workers that outlive it do not keep it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder, _, its_status_file = self._lock.read().strip().partition("\n")
            # Where the holder will write, nobody else does.
            self._is_refused = not self._status_is_inside and its_status_file not in ("", str(self.status_file.resolve()))
            holder = holder or "another process"
            raise ConfigError(f"output_dir {self.path} is in use by {holder}; choose another output_dir") from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n{self.status_file.resolve()}\n")
        self._lock.flush()
        self.is_held = True

    def check_model(self, name: str) -> None:
        """Raises ConfigError if the model to start from, or the base that it adapts, lies in this folder: the run would
        move it away, or write over it at its end."""
        base = _adapter_base(Path(name))
        for place, what in ((name, name), (base, f"{name} adapts {base}, which")):
            if place is not None and Path(place).exists() and _lies_in(Path(place), self.path):
                raise ConfigError(
                    f"model.name_or_path: {what} lies inside output_dir {self.path}, where the run would move it away "
                    "or write over it; choose another output_dir"
                )

    def is_finished(self, recipe: dict[str, Any]) -> bool:
        """Whether this training was done to its end here."""
        return self._is_over and self._holds(recipe)

    @property
    def _is_over(self) -> bool:
        return self.final.is_dir() and not self._goes_on_file.exists()

    def steps_done(self) -> int:
        """Optimizer steps of the run so far, as its metrics say; 0 if they are gone."""
        try:
            return json.loads(self.metrics_file.read_text().splitlines()[-1])["step"]
        except (OSError, ValueError, LookupError):
            return 0

    def _holds(self, recipe: dict[str, Any]) -> bool:
        return self.config_file.is_file() and not recipe_differences(yaml.safe_load(self.config_file.read_text()), recipe)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one to go on from; whether it is good is not said."""
        return any(not path.suffix for path in (self.path / "checkpoints").glob("step-*"))

    def open(self, recipe: dict[str, Any], allowed: Sequence[str] = ()) -> Path | None:
        """Make room for a run. What is of another recipe and cannot be continued (it is finished, or was cut before
        its first checkpoint) is moved aside, never written over.

        Args:
            allowed: keys that may differ. Whoever names any wants to go on, from a finished run too.

        Returns:
            where the earlier run is now, or None.

        Raises:
            ConfigError: if a finished run should go on, but has no checkpoint.
        """
        moved = None
        can_continue = self.has_checkpoint and (bool(allowed) or not self._is_over)
        if self.config_file.exists() and not can_continue and not self._holds(recipe):
            if allowed and self._is_over:
                raise ConfigError(
                    f"{self.path} is finished and has no checkpoint to go on from: choose another output_dir, "
                    f"with model.name_or_path={self.final} to start from its model"
                )
            moved = self._move_aside()
        if self.metrics_file.exists():
            _drop_cut_line(self.metrics_file)
        return moved

    def _move_aside(self) -> Path:
        """Free the name. How the earlier run ended goes with it; a request to stop was made of the one that starts."""
        moved = self._free_name()
        self.path.rename(moved)
        if self._earlier_status is not None and self._status_is_inside:
            (moved / "status.json").write_text(self._earlier_status)
        self.lock()
        if (moved / self.stop_file.name).exists():
            (moved / self.stop_file.name).rename(self.stop_file)
        return moved

    def write_config(self, recipe_yaml: str) -> None:
        """Keep the recipe, whole or not at all. From here on a final model of another recipe is not this run's."""
        if self._is_over and not self._holds(yaml.safe_load(recipe_yaml)):
            _write_whole(self._goes_on_file, "final/ is of an earlier recipe until this run is done\n")
        _write_whole(self.config_file, recipe_yaml)

    def write_videos(self, videos: Iterable[str]) -> None:
        """Keep the names of the videos that are trained on, by which evaluation knows them."""
        _write_whole(self.path / "train_videos.txt", "".join(f"{video}\n" for video in sorted(set(videos))))

    def _free_name(self) -> Path:
        number = 1
        while (name := self.path.with_name(f"{self.path.name}.earlier-{number}")).exists():
            number += 1
        return name

    @contextmanager
    def making_final(self) -> Iterator[Path]:
        """A folder to write the final model into; it becomes `final/` when it is whole and on the disk."""
        beside, earlier = self.path / ".final", self.path / ".final.earlier"
        for leftover in (beside, earlier):
            shutil.rmtree(leftover, ignore_errors=True)
        yield beside
        for file in beside.rglob("*"):
            flush(file)
        flush(beside)
        if self.final.is_dir():
            self.final.rename(earlier)
        beside.rename(self.final)
        flush(self.path)
        self._goes_on_file.unlink(missing_ok=True)
        shutil.rmtree(earlier, ignore_errors=True)

    def forget_status(self) -> None:
        """Remove how an earlier start ended: whoever reads a status while this one runs must not believe it."""
        if self.status_file.is_file():
            self._earlier_status = self.status_file.read_text()
            self.status_file.unlink()

    def write_status(self, code: int, reason: str) -> None:
        """Say how the start ended, if it holds the folder. One that was refused may say so in a file of its own.

        The first process that fails is believed: the others fail because it did. A good end is the main process's to
        say, over what a start that was refused may have written meanwhile.
        """
        if self.is_held or self._is_refused:
            replaces = self._is_refused or code in (DONE, STOPPED)
            write_status_file(self.status_file, code, reason, self.step, replaces)

    @property
    def _status_is_inside(self) -> bool:
        return self.status_file.parent.resolve() == self.path.resolve()


def write_status_file(file: Path, code: int, reason: str, step: int, replaces: bool) -> None:
    """Say how a start ended; whole or not at all.

    Args:
        replaces: whether over what is there; else that stays.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if replaces or not file.exists():
            _write_whole(file, json.dumps({"code": code, "reason": reason, "step": step}, indent=2) + "\n")
    except OSError as error:
        print(f"cannot write {file}: {error}", file=sys.stderr)


def flush(path: Path) -> None:
    """Make what was renamed or made in a folder last, or a file's content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is never seen in part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    flush(beside)
    beside.replace(path)


def recipe_differences(was: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Key -> what it was and is, of the keys that decide what a training becomes."""
    was, now = _flat(was), _flat(now)
    return {
        key: f"{key} was {was.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key) and not any(key == free or key.startswith(free + ".") for free in FREE_KEYS)
    }


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _adapter_base(folder: Path) -> str | None:
    """What a local adapter says it adapts; what is wrong with an adapter is said when the model is checked."""
    try:
        return str(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _lies_in(place: Path, folder: Path) -> bool:
    """Whether by its name or by where links lead."""
    inner, outer = ((Path(os.path.abspath(path)), path.resolve()) for path in (place, folder))
    return any(path.is_relative_to(above) for path in inner for above in outer)


def _drop_cut_line(path: Path) -> None:
    """A process killed while it wrote leaves part of a line; the step is logged again."""
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
