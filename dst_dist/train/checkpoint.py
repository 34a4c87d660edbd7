"""Writes and reads checkpoints: each is written under a temporary name, flushed, checksummed, then renamed.

    checkpoints/step-00000100/  state-00000.safetensors ...  random-00000.safetensors ...  training.json  MANIFEST.json

Each process writes one `state` and one `random` file. MANIFEST.json has the size and sha256 of every other file and is
written last. Only safetensors and JSON are read back.
"""

import json
import re
import secrets
import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from dst_dist.errors import CheckpointError
from dst_dist.files import flush, free_name, point_to, pointed_to, sha256, write_whole
from dst_dist.logs import logger
from dst_dist.run_folder import RunFolder
from dst_dist.train.background import Remover
from dst_dist.train.engine import Engine
from dst_dist.train.engine_state import restore, set_random_state, trained_shapes
from dst_dist.train.state_files import StretchReader
from dst_dist.train.writer import TRAINING, Writer, Written

MANIFEST = "MANIFEST.json"
NAME = re.compile(r"step-\d{8,}")
UNFINISHED = ".unfinished"


class FileEntry(pydantic.BaseModel):
    """Entry of the manifest about a file."""

    bytes: int
    sha256: str


class Manifest(pydantic.BaseModel):
    """The content of MANIFEST.json."""

    files: dict[str, FileEntry]


@dataclass
class Begun:
    """A save that was begun and is not complete."""

    target: Path
    is_best: bool
    temporary: Path | None = None
    """Folder that it is written in; None if the checkpoint exists already and only the links move."""
    own_files: Future[Written] | None = None
    """Done when this process's files are written."""


class Checkpoints:
    """The checkpoints of one run, saved one at a time: `begin`, then `complete`.

    Args:
        keep: the number of newest checkpoints that stay; the one that `best` points at stays too.
        background: whether training goes on while a save is written, from a copy if there is host memory for one, and
            while old checkpoints are removed; `remover.wait` waits for that.
    """

    def __init__(self, run: RunFolder, keep: int, background: bool = False):
        self.run, self.folder, self.keep = run, run.checkpoints, keep
        self._writer, self.remover = Writer(background), Remover(background)
        self._begun: Begun | None = None

    def begin(self, engine: Engine, step: int, training: dict[str, Any], is_best: bool) -> bool:
        """Begin a checkpoint of the state as it is now; `complete` ends it (collective).

        Returns:
            whether training may go on before `complete`, the same on every process. Else the state must not change.

        Raises:
            OSError: on every process, if it failed on any.
        """
        assert self._begun is None, "the save before is not complete"
        target = self.of_step(step)
        # The name is new each time: a process of an earlier start that is still alive cannot write into it.
        name = f"{target.name}{UNFINISHED}-{secrets.token_hex(4)}"
        exists, temporary = engine.from_main((target.exists(), self.folder / name))
        if exists:
            self._begun = Begun(target, is_best)
            return False
        engine.on_main(lambda: temporary.mkdir(parents=True))
        self._begun = Begun(target, is_best, temporary, self._writer.begin(engine, temporary, training))
        return self._writer.background

    @property
    def is_writing(self) -> bool:
        """Whether this process's part of the save that was begun is not written yet."""
        return self._begun is not None and self._begun.own_files is not None and not self._begun.own_files.done()

    def drop(self) -> None:
        """Log that a save that was begun, if there is one, will never be complete."""
        if self._begun is not None:
            logger.warning("%s was not complete and is dropped; the one before it stays the newest", self._begun.target)

    def complete(self, engine: Engine) -> tuple[Path, float] | None:
        """Wait until what was begun is written, and give it its name (collective).

        Returns:
            its folder, and the seconds that the slowest process wrote; None if no save was begun.

        Raises:
            OSError: on every process, if writing failed on any; earlier checkpoints stay.
        """
        save, self._begun = self._begun, None
        if save is None:
            return None
        elapsed_s = 0.0 if save.own_files is None else self._complete(engine, save)
        engine.on_main(lambda: self._link_and_prune(save.target, save.is_best))
        return save.target, elapsed_s

    def _complete(self, engine: Engine, save: Begun) -> float:
        """Wait for every process's files, rename the folder, and return the longest time of writing (collective)."""
        try:
            parts = engine.on_every(save.own_files.result)
            files = {name: entry for part in parts for name, entry in part.files.items()}
            engine.on_main(lambda: self._give_name(save.temporary, save.target, files))
        except OSError:
            if engine.is_main:
                # The disk is probably full; without this the next start would remove it.
                shutil.rmtree(save.temporary, ignore_errors=True)
            raise
        return max(part.elapsed_s for part in parts)

    def _give_name(self, temporary: Path, target: Path, files: dict[str, dict[str, Any]]) -> None:
        """Write the manifest, then give the folder its name."""
        write_whole(temporary / MANIFEST, json.dumps({"files": files}, indent=2) + "\n")
        flush(temporary)
        temporary.rename(target)
        flush(self.folder)

    def _link_and_prune(self, target: Path, is_best: bool) -> None:
        """Move the links, then remove old checkpoints: none goes before the new one is complete."""
        self._link("last", target)
        if is_best:
            self._link("best", target)
        best = pointed_to(self.run.path / "best")
        good = [path for path in self.existing() if (path / MANIFEST).is_file()]
        old = [path for path in good[: -self.keep] if best is None or path.name != best.name]
        self.remover.remove_all([aside for path in old if (aside := _set_aside(path)) is not None])

    def _link(self, name: str, target: Path) -> None:
        temporary = self.run.path / f".{name}{UNFINISHED}"
        temporary.unlink(missing_ok=True)
        point_to(temporary, target.relative_to(self.run.path))
        temporary.replace(self.run.path / name)

    def link_again(self, last: Path, best_step: int) -> None:
        """Set both links after a start: an earlier one may have been cut before it moved them. For the main process.

        Args:
            best_step: 0 if no checkpoint is the best yet.
        """
        self._link("last", last)
        best = self.of_step(best_step)
        if best_step and best.is_dir():
            self._link("best", best)
        else:
            (self.run.path / "best").unlink(missing_ok=True)

    def existing(self) -> list[Path]:
        """Return the checkpoints by step, oldest first; they may be damaged."""
        found = [path for path in self.folder.glob("step-*") if NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def newest_valid(self, engine: Engine) -> Path | None:
        """Return the newest checkpoint whose every byte is as it was written, or None if there is none (collective).

        Damaged checkpoints are logged, and renamed if an older one is good.

        Raises:
            CheckpointError: if there are checkpoints, but not one is good.
        """
        broken: dict[Path, str] = {}
        for path in reversed(engine.from_main(self.existing())):
            faults = self.faults(path, engine)
            if not faults:
                # Training will reach their steps again.
                engine.on_main(lambda: [path.rename(free_name(path, "broken")) for path in broken])
                return path
            broken[path] = "; ".join(faults)
            logger.warning("%s cannot be used, the one before is tried: %s", path, broken[path])
        if broken:
            remedy = f"to begin again from the first step, move {self.folder} away"
            faults = [f"{path}: {text}" for path, text in broken.items()]
            raise CheckpointError([*faults, f"no checkpoint can be used; {remedy}"])
        return None

    def faults(self, path: Path, engine: Engine) -> list[str]:
        """Return what is wrong with a checkpoint; each file is read once, by one process (collective)."""
        return sorted({text for part in engine.gather_objects(_verify_own_share(path, engine)) for text in part})

    def of_step(self, step: int) -> Path:
        """Return the place of the checkpoint of a step."""
        return self.folder / f"step-{step:08d}"

    def clear_unfinished(self) -> None:
        """Remove what a killed process left half written or half removed. For the main process.

        Raises:
            CheckpointError: if a folder is where the first save would put a link.
        """
        for place in (self.run.path / "last", self.run.path / "best"):
            if place.is_dir() and not place.is_symlink():
                raise CheckpointError(
                    f"{place} is a folder, not a link to a checkpoint, as in a run copied with its links followed: "
                    f"remove it if {self.folder} has the same checkpoint, else move it there as step-... (eight digits)"
                )
        for path in self.folder.glob(f"*{UNFINISHED}*"):
            self.remover.remove(path)


def _set_aside(path: Path) -> Path | None:
    """Rename a checkpoint that is removed next, so that half of one is never read; None if that fails."""
    try:
        return path.rename(path.with_name(path.name + UNFINISHED))
    except OSError as error:
        logger.warning("%s could not be removed: %s", path, error)
        return None


def _verify_own_share(path: Path, engine: Engine) -> list[str]:
    """Return the faults of this process's share of a checkpoint's files."""
    try:
        files = read_manifest(path)
    except (OSError, ValueError) as error:
        return [f"no readable {MANIFEST} ({type(error).__name__})"]
    own = sorted(files)[engine.rank :: engine.num_processes]
    return [fault for name in own if (fault := _file_fault(path / name, files[name]))]


def _file_fault(file: Path, entry: FileEntry) -> str | None:
    """Return what is wrong with a file, or None."""
    try:
        if file.stat().st_size != entry.bytes:
            return f"{file.name} has {file.stat().st_size} bytes, not {entry.bytes}"
        return None if sha256(file) == entry.sha256 else f"{file.name} was changed"
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"


def read_manifest(path: Path) -> dict[str, FileEntry]:
    """Return the manifest's entry of each file of a checkpoint. Raises OSError or ValueError if it is damaged."""
    files = Manifest.model_validate_json((path / MANIFEST).read_bytes()).files
    if TRAINING not in files:
        raise ValueError(f"{MANIFEST} lists no {TRAINING}")
    return files


def read_training(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's training.json."""
    return json.loads((path / TRAINING).read_text(encoding="utf-8"))


def load(path: Path, engine: Engine, num_updates: int) -> None:
    """Load a checkpoint's weights, moments and random state into a prepared engine (collective).

    Raises:
        CheckpointError: if other parameters are trained now, or have other shapes.
    """
    saved, trained = read_training(path)["shapes"], trained_shapes(engine)
    names = sorted(name for name in saved | trained if saved.get(name) != trained.get(name))
    if names:
        shapes = (f"{name} was {saved.get(name, 'frozen')} and is {trained.get(name, 'frozen')}" for name in names[:3])
        raise CheckpointError(
            f"{path}: other parameters are trained now, {len(names)} in all: {'; '.join(shapes)}; "
            "see finetune, or use another output_dir"
        )
    files = read_manifest(path)
    restore(engine, StretchReader(path / name for name in sorted(files) if name.startswith("state-")), num_updates)
    random_file = f"random-{engine.rank:05d}.safetensors"
    # Of a checkpoint of fewer processes there is none; this process keeps the state it was seeded with.
    if random_file in files:
        set_random_state(path / random_file, engine.device)
