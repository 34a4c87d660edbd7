"""Holds a run folder for one training: its lock, its status file and its final model."""

import errno
import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dst_dist.errors import ConfigError
from dst_dist.exit import DONE, STOPPED
from dst_dist.file_system import RUN_FOLDER, WRITES, try_folder
from dst_dist.files import flush, free_name, write_whole
from dst_dist.run_folder import RunFolder


class HeldFolder(RunFolder):
    """The folder of a run that is being started or trained.

    Args:
        status_file: written instead of the folder's `status.json`, for scripts that read it before the folder exists.
    """

    def __init__(self, path: Path, status_file: Path | None = None):
        super().__init__(path)
        self.status_file = status_file or self.status_file
        self.step = 0
        self.lacking: list[str] = []
        """Clauses about operations that the file system lacks and the run does without."""
        self.may_write_status = False
        """False until this process knows that its run holds the folder: by the lock, or from the main process."""
        self._lock = None
        self._earlier_status: str | None = None

    def lock(self) -> None:
        """Hold the folder until this process ends, however it ends, and remove the status of an earlier start.

        A refused start may write its status only outside the folder, to a file that the holder does not write.

        Raises:
            ConfigError: if another run holds the folder, or a run cannot work in it.
        """
        self.may_write_status, self.lacking = False, []
        try:
            # Of a link, what it points to is made: it may have been moved aside.
            Path(os.path.realpath(self.path)).mkdir(parents=True, exist_ok=True)
            self._lock = open(self.lock_file, "a+", encoding="utf-8")  # noqa: SIM115, held until the process ends
            self._hold()
        except OSError as error:
            if not self._status_is_inside:
                self._take_status_file()
            raise ConfigError(f"output_dir: {self.path} cannot be written: {error.strerror}") from error
        self._take_status_file()
        self.lacking += try_folder("output_dir", self.path, RUN_FOLDER)
        if not self._status_is_inside:
            try_folder("--status-file", self.status_file.parent, WRITES)

    def _hold(self) -> None:
        """Take the lock and write this process's name into it. Raises ConfigError if another process has it."""
        try:
            # A record lock belongs to this process alone: data workers that outlive it do not keep it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                self._refuse_second(error)
            self.lacking.append(
                f"cannot lock a file ({error.strerror}): nothing keeps a second start out of the folder"
            )
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n{os.path.realpath(self.status_file)}\n")
        self._lock.flush()

    def _refuse_second(self, error: OSError) -> NoReturn:
        """Raise ConfigError with the holder of the folder."""
        self._lock.seek(0)
        holder, _, its_status_file = self._lock.read().strip().partition("\n")
        if not self._status_is_inside and its_status_file not in ("", os.path.realpath(self.status_file)):
            self._take_status_file()
        holder = holder or "another process"
        raise ConfigError(f"output_dir {self.path} is in use by {holder}; choose another output_dir") from error

    def _take_status_file(self) -> None:
        """Allow `write_status`, and remove the status of an earlier start."""
        self.may_write_status = True
        try:
            if self.status_file.is_file():
                self._earlier_status = self.status_file.read_text(encoding="utf-8")
                self.status_file.unlink()
        except OSError as error:
            raise ConfigError(f"{self.status_file}: cannot be replaced: {error.strerror}") from error

    @property
    def _status_is_inside(self) -> bool:
        return os.path.realpath(self.status_file.parent) == os.path.realpath(self.path)

    def open(self, recipe: dict[str, Any], allowed: Sequence[str] = ()) -> Path | None:
        """Prepare the folder for a run.

        A run of another recipe that cannot be resumed (finished, or cut before its first checkpoint) is moved aside
        and never overwritten.

        Args:
            allowed: keys that may differ. With any, a finished run is resumed too.

        Returns:
            the earlier run's new place, or None.

        Raises:
            ConfigError: if a finished run is to be resumed, or its best model taken, but has no checkpoint.
        """
        moved = None
        can_resume = self.has_checkpoint and (bool(allowed) or not self.is_over)
        if self.is_over and not self.has_checkpoint and (allowed or self.has_recipe(recipe)):
            raise ConfigError(
                f"{self.path} is finished and has no checkpoint to go on from, or to take the best of: choose another "
                f"output_dir, with model.name_or_path={self.final} to start from its model"
            )
        if self.config_file.exists() and not can_resume and not self.has_recipe(recipe):
            moved = self._move_aside()
        if self.metrics_file.exists():
            _remove_cut_line(self.metrics_file)
        return moved

    def _move_aside(self) -> Path:
        """Rename the earlier run's folder, with its status; a STOP file was meant for the run that starts now."""
        # What a link points to moves, and the link stays: the new run belongs on the same disk.
        place = self.path.resolve() if self.path.is_symlink() else self.path
        moved = RunFolder(free_name(place, "earlier"))
        try:
            place.rename(moved.path)
        except OSError as error:
            raise ConfigError(
                f"output_dir: {self.path} holds another run, which cannot be moved to {moved.path} "
                f"({error.strerror}); choose another output_dir, or move what is in it"
            ) from error
        if self._earlier_status is not None and self._status_is_inside:
            moved.status_file.write_text(self._earlier_status, encoding="utf-8")
        self.lock()
        if moved.stop_file.exists():
            moved.stop_file.rename(self.stop_file)
        return moved.path

    def write_config(self, recipe_yaml: str) -> None:
        """Write the recipe. If it differs from that of `final/`, the run counts as unfinished from now on."""
        if self.is_over and not self.has_final_of(yaml.safe_load(recipe_yaml)):
            write_whole(self.goes_on_file, "final/ is of an earlier recipe until this run is done\n")
        write_whole(self.config_file, recipe_yaml)

    def write_videos(self, videos: Iterable[str], goes_on: bool) -> None:
        """Write the videos trained on; a run that goes on, maybe with other data, keeps those of before."""
        trained_on = set(videos)
        if goes_on and self.videos_file.is_file():
            trained_on |= set(self.videos_file.read_text(encoding="utf-8").split("\n")) - {""}
        write_whole(self.videos_file, sorted(f"{video}\n" for video in trained_on))

    @contextmanager
    def making_final(self) -> Iterator[Path]:
        """Yield a folder to write the final model into; it becomes `final/` when it is complete and on the disk."""
        new, earlier = self.path / ".final", self.path / ".final.earlier"
        for leftover in (new, earlier):
            shutil.rmtree(leftover, ignore_errors=True)
        yield new
        for path in (*new.rglob("*"), new):
            flush(path)
        if self.final.is_dir():
            self.final.rename(earlier)
        new.rename(self.final)
        flush(self.path)
        self.goes_on_file.unlink(missing_ok=True)
        shutil.rmtree(earlier, ignore_errors=True)

    def write_status(self, code: int, reason: str, replaces: bool | None = None) -> None:
        """Write how the start ended, if this process may.

        Of several failures the first one stays: the other processes fail because of it. A good end, which only the
        main process writes, replaces what a refused start may have written.

        Args:
            replaces: whether it replaces an existing status; by the code if None.
        """
        if replaces is None:
            replaces = code in (DONE, STOPPED)
        if self.may_write_status:
            write_status_file(self.status_file, code, reason, self.step, replaces)


def write_status_file(file: Path, code: int, reason: str, step: int, replaces: bool) -> None:
    """Write how a start ended; an existing file stays unless `replaces`."""
    try:
        if replaces or not file.exists():
            write_whole(file, json.dumps({"code": code, "reason": reason, "step": step}, indent=2) + "\n")
    except OSError as error:
        print(f"cannot write {file}: {error}", file=sys.stderr)


def check_start_model(name: str, output_dir: Path) -> None:
    """Raise ConfigError if the model to start from, or the base of that adapter, is inside the run's own folder.

    The run would move it away, or overwrite it at its end.
    """
    base = _adapter_base(Path(name))
    for place, what in ((name, name), (base, f"{name} adapts {base}, which")):
        if place is not None and Path(place).exists() and _is_inside(Path(place), output_dir):
            raise ConfigError(
                f"model.name_or_path: {what} lies inside output_dir {output_dir}, where the run would move it away "
                "or write over it; choose another output_dir"
            )


def _adapter_base(folder: Path) -> str | None:
    """Return the base that a local adapter names, or None; a damaged adapter is reported when the model is checked."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return base if isinstance(base, str) else None


def _is_inside(place: Path, folder: Path) -> bool:
    """Return whether a path is in a folder, by its name or after following links."""
    inner, outer = ((Path(os.path.abspath(path)), Path(os.path.realpath(path))) for path in (place, folder))
    return any(path.is_relative_to(above) for path in inner for above in outer)


def _remove_cut_line(path: Path) -> None:
    """Remove the last line if a killed process left it unfinished; its step is logged again."""
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
