"""The run folder of a training: its lock, its status, and its final model."""

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
from dst_dist.exit import DONE, STOPPED
from dst_dist.files import flush, free_name, write_whole
from dst_dist.run_folder import RunFolder


class HeldFolder(RunFolder):
    """The folder of a run that is being started or trained.

    Args:
        status_file: where `status.json` goes instead, for scripts that must read it before there is a folder.
    """

    def __init__(self, path: Path, status_file: Path | None = None):
        super().__init__(path)
        self.status_file = status_file or self.status_file
        self.step = 0
        self._lock = None
        self.is_held = False
        """Whether this process knows that its run holds the folder: the main process by its lock, others from it."""
        self._may_say_refused = False
        """Whether a start that cannot have the folder may still write its own status file."""
        self._earlier_status: str | None = None

    def lock(self) -> None:
        """Lock the folder for this process until it ends.

        Raises:
            ConfigError: if another run holds it, or it cannot be written.
        """
        self.is_held = False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.lock_file, "a+")  # noqa: SIM115, held until the process ends
        except OSError as error:
            self._may_say_refused = not self._status_is_inside
            raise ConfigError(f"output_dir: {self.path} cannot be written: {error.strerror}") from error
        try:
            # A record lock belongs to this process alone: data workers that outlive it do not keep it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder, _, its_status_file = self._lock.read().strip().partition("\n")
            # Where the holder will write, nobody else does.
            own_file = its_status_file not in ("", str(self.status_file.resolve()))
            self._may_say_refused = own_file and not self._status_is_inside
            holder = holder or "another process"
            raise ConfigError(f"output_dir {self.path} is in use by {holder}; choose another output_dir") from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n{self.status_file.resolve()}\n")
        self._lock.flush()
        self.is_held = True

    def open(self, recipe: dict[str, Any], allowed: Sequence[str] = ()) -> Path | None:
        """Make room for a run.

        A run of another recipe that cannot be continued (it is finished, or was cut before its first checkpoint) is
        moved aside, never written over.

        Args:
            allowed: keys that may differ. Naming any means to go on, from a finished run too.

        Returns:
            where the earlier run is now, or None.

        Raises:
            ConfigError: if a finished run should go on, but has no checkpoint.
        """
        moved = None
        can_continue = self.has_checkpoint and (bool(allowed) or not self.is_over)
        if self.config_file.exists() and not can_continue and not self.holds(recipe):
            if allowed and self.is_over:
                raise ConfigError(
                    f"{self.path} is finished and has no checkpoint to go on from: choose another output_dir, "
                    f"with model.name_or_path={self.final} to start from its model"
                )
            moved = self._move_aside()
        if self.metrics_file.exists():
            _drop_cut_line(self.metrics_file)
        return moved

    def _move_aside(self) -> Path:
        """Free the name. The earlier run's status goes with it; a request to stop was made of the run that starts."""
        moved = free_name(self.path, "earlier")
        self.path.rename(moved)
        if self._earlier_status is not None and self._status_is_inside:
            (moved / "status.json").write_text(self._earlier_status)
        self.lock()
        if (moved / self.stop_file.name).exists():
            (moved / self.stop_file.name).rename(self.stop_file)
        return moved

    def write_config(self, recipe_yaml: str) -> None:
        """Write the recipe. From here on a final model of another recipe is not this run's."""
        if self.is_over and not self.holds(yaml.safe_load(recipe_yaml)):
            write_whole(self.goes_on_file, "final/ is of an earlier recipe until this run is done\n")
        write_whole(self.config_file, recipe_yaml)

    def write_videos(self, videos: Iterable[str]) -> None:
        """Write the names of the training videos, with which evaluation compares its own."""
        write_whole(self.videos_file, [f"{video}\n" for video in sorted(set(videos))])

    @contextmanager
    def making_final(self) -> Iterator[Path]:
        """Give a folder to write the final model into; it becomes `final/` when it is whole and on the disk."""
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
        self.goes_on_file.unlink(missing_ok=True)
        shutil.rmtree(earlier, ignore_errors=True)

    def forget_status(self) -> None:
        """Remove the status of an earlier start: it would be read as that of the start that runs."""
        if self.status_file.is_file():
            self._earlier_status = self.status_file.read_text()
            self.status_file.unlink()

    def write_status(self, code: int, reason: str) -> None:
        """Write how the start ended, if it holds the folder or may write that it was refused.

        The first process that fails is believed: the others fail because it did. A good end is written by the main
        process, over what a start that was refused may have written meanwhile.
        """
        if self.is_held or self._may_say_refused:
            replaces = self._may_say_refused or code in (DONE, STOPPED)
            write_status_file(self.status_file, code, reason, self.step, replaces)

    @property
    def _status_is_inside(self) -> bool:
        return self.status_file.parent.resolve() == self.path.resolve()


def write_status_file(file: Path, code: int, reason: str, step: int, replaces: bool) -> None:
    """Write how a start ended.

    Args:
        replaces: whether over what is there; otherwise that stays.
    """
    try:
        if replaces or not file.exists():
            write_whole(file, json.dumps({"code": code, "reason": reason, "step": step}, indent=2) + "\n")
    except OSError as error:
        print(f"cannot write {file}: {error}", file=sys.stderr)


def check_start_model(name: str, output_dir: Path) -> None:
    """Raise ConfigError if the model to start from, or the base that it adapts, lies in the run's own folder.

    The run would move it away, or write over it at its end.
    """
    base = _adapter_base(Path(name))
    for place, what in ((name, name), (base, f"{name} adapts {base}, which")):
        if place is not None and Path(place).exists() and _lies_in(Path(place), output_dir):
            raise ConfigError(
                f"model.name_or_path: {what} lies inside output_dir {output_dir}, where the run would move it away "
                "or write over it; choose another output_dir"
            )


def _adapter_base(folder: Path) -> str | None:
    """Return what a local adapter says it adapts; its faults are said when the model is checked."""
    try:
        return str(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _lies_in(place: Path, folder: Path) -> bool:
    """Return whether a path lies in a folder, by its name or by where links lead."""
    inner, outer = ((Path(os.path.abspath(path)), path.resolve()) for path in (place, folder))
    return any(path.is_relative_to(above) for path in inner for above in outer)


def _drop_cut_line(path: Path) -> None:
    """Remove the part of a line that a process killed while it wrote left; the step is logged again."""
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
