"""Checkpoints that are whole or not there: written under another name, flushed, checksummed, renamed.

    checkpoints/step-00000100/  state-00000.safetensors ...  random-00000.safetensors ...  training.json  MANIFEST.json

MANIFEST.json has the size and sha256 of every other file and is written last. Only safetensors and JSON
are read back.
"""

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dst_dist.errors import CheckpointError
from dst_dist.files import flush, free_name, sha256, write_whole
from dst_dist.logs import logger
from dst_dist.run_folder import RunFolder
from dst_dist.train.engine import Engine
from dst_dist.train.engine_state import held_state, restore, stretches, trained_shapes
from dst_dist.train.random_state import random_state, set_random_state
from dst_dist.train.state_files import StretchReader, write_stretches

MANIFEST, TRAINING = "MANIFEST.json", "training.json"
NAME = re.compile(r"step-(\d{8,})")
UNFINISHED = ".unfinished"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        keep: so many of the newest stay; the one that `best` points at stays too.
        fault: called with the name of each instant at which a crash must do no harm; for tests.
    """

    def __init__(self, run: RunFolder, keep: int, fault: Callable[[str], None] = lambda point: None):
        self.run = run
        self.folder = run.checkpoints
        self.keep = keep
        self.fault = fault

    def save(self, engine: Engine, step: int, training: dict[str, Any], is_best: bool) -> Path:
        """Write one checkpoint, each process its part, unless it is there; return its folder (collective).

        Raises:
            OSError: on every process, if writing failed on any; earlier checkpoints still stand.
        """
        target = self.folder / f"step-{step:08d}"
        if not engine.from_main(target.exists()):
            self._write(engine, target, training)
        engine.on_main(lambda: self._point(target, is_best))
        return target

    def _write(self, engine: Engine, target: Path, training: dict[str, Any]) -> None:
        # The name is new each time: a process of an earlier start that still lives cannot write into it.
        beside = self.folder / engine.from_main(f"{target.name}{UNFINISHED}-{secrets.token_hex(4)}")
        try:
            engine.on_main(lambda: beside.mkdir(parents=True))
            parts = engine.on_every(lambda: self._write_own_files(engine, beside, training))
            files = {name: about for part in parts for name, about in part.items()}
            engine.on_main(lambda: self._complete(beside, target, files))
        except OSError:
            if engine.is_main:
                # A full disk is the likeliest reason; the next start would remove it too.
                shutil.rmtree(beside, ignore_errors=True)
            raise

    def _write_own_files(self, engine: Engine, folder: Path, training: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Write this process's files; return their sizes and checksums by name."""
        self.fault("before state")
        state, chance = f"state-{engine.rank:05d}.safetensors", f"random-{engine.rank:05d}.safetensors"
        digests = {state: write_stretches(folder / state, stretches(held_state(engine)))}
        self.fault("after state")
        digests[chance] = write_stretches(folder / chance, random_state(engine.device))
        self.fault("after random")
        if engine.is_main:
            write_whole(folder / TRAINING, json.dumps({**training, "shapes": trained_shapes(engine)}, indent=2) + "\n")
            digests[TRAINING] = sha256(folder / TRAINING)
            self.fault("after training")
        return {name: {"bytes": (folder / name).stat().st_size, "sha256": digest} for name, digest in digests.items()}

    def _complete(self, beside: Path, target: Path, files: dict[str, dict[str, Any]]) -> None:
        self.fault("before manifest")
        write_whole(beside / MANIFEST, json.dumps({"files": files}, indent=2) + "\n")
        self.fault("after manifest")
        flush(beside)
        self.fault("before rename")
        beside.rename(target)
        self.fault("after rename")
        flush(self.folder)

    def _point(self, target: Path, is_best: bool) -> None:
        """Move the links to the new checkpoint, then remove old ones."""
        self._link("last", target)
        if is_best:
            self._link("best", target)
        self.fault("before prune")
        self._prune()
        self.fault("after prune")

    def _link(self, name: str, target: Path) -> None:
        self.fault(f"before link {name}")
        beside = self.run.path / f".{name}{UNFINISHED}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(target.relative_to(self.run.path))
        self.fault(f"inside link {name}")
        beside.replace(self.run.path / name)
        self.fault(f"after link {name}")

    def link_again(self, last: Path, best_step: int) -> None:
        """Set the links again at a start: an earlier one may have been cut before. Called by one process.

        Args:
            best_step: 0 if there is no best one yet.
        """
        self._link("last", last)
        best = self.folder / f"step-{best_step:08d}"
        if best_step and best.is_dir():
            self._link("best", best)
        else:
            (self.run.path / "best").unlink(missing_ok=True)

    def _prune(self) -> None:
        best = self.run.path / "best"
        kept = {best.resolve().name} if best.is_symlink() else set()
        good = [path for path in self.existing() if (path / MANIFEST).is_file()]
        for path in good[: -self.keep]:
            if path.name not in kept:
                with _if_possible(path):
                    # Renamed first, so that a half removed one is never taken for a checkpoint.
                    doomed = path.with_name(path.name + UNFINISHED)
                    path.rename(doomed)
                    self.fault("inside prune")
                    shutil.rmtree(doomed)

    def existing(self) -> list[Path]:
        """Return the checkpoints by step, oldest first, also broken ones."""
        return sorted(
            (path for path in self.folder.glob("step-*") if NAME.fullmatch(path.name)),
            key=lambda path: int(NAME.fullmatch(path.name)[1]),
        )

    def newest_valid(self, engine: Engine) -> Path | None:
        """Return the newest checkpoint whose every byte is as written, or None if there is none at all (collective).

        Each file is read once, by one process. A broken one is logged, and renamed if an older one is good.

        Raises:
            CheckpointError: if there are checkpoints, but not one is good.
        """
        broken: dict[Path, str] = {}
        for path in reversed(engine.from_main(self.existing())):
            faults = {text for part in engine.gather_objects(self._verify_part(path, engine)) for text in part}
            if not faults:
                engine.on_main(lambda: _set_aside(broken))
                return path
            broken[path] = "; ".join(sorted(faults))
            logger.warning("%s cannot be used, the one before is tried: %s", path, broken[path])
        if broken:
            remedy = f"to begin again from the first step, move {self.folder} away"
            raise CheckpointError(
                [*(f"{path}: {text}" for path, text in broken.items()), f"no checkpoint can be used; {remedy}"]
            )
        return None

    def clear_unfinished(self) -> None:
        """Remove what a killed process left half written or half removed; called by one process.

        Raises:
            CheckpointError: if a folder stands where the first save would put a link.
        """
        for place in (self.run.path / "last", self.run.path / "best"):
            if place.is_dir() and not place.is_symlink():
                raise CheckpointError(
                    f"{place} is a folder where a link to a checkpoint goes, as in a copy that followed the links: "
                    f"remove it if {self.folder} has the same checkpoint, else move it there as step-... (eight digits)"
                )
        for path in self.folder.glob(f"*{UNFINISHED}*"):
            with _if_possible(path):
                shutil.rmtree(path)

    def _verify_part(self, path: Path, engine: Engine) -> list[str]:
        """Return the faults of this process's share of the files."""
        try:
            files = read_manifest(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return [f"no readable {MANIFEST} ({type(error).__name__})"]
        return list(
            filter(
                None,
                (_file_fault(path / name, files[name]) for name in sorted(files)[engine.rank :: engine.num_processes]),
            )
        )


@contextmanager
def _if_possible(path: Path) -> Iterator[None]:
    """Log a warning if a folder cannot be removed: it does no harm, and is removed at a later start."""
    try:
        yield
    except OSError as error:
        logger.warning("%s could not be removed: %s", path, error)


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Return size and checksum of each file of a checkpoint. Raises OSError, ValueError or KeyError if damaged."""
    files = json.loads((path / MANIFEST).read_text())["files"]
    if not isinstance(files, dict) or TRAINING not in files:
        raise ValueError(f"{MANIFEST} lists no {TRAINING}")
    return {name: {"bytes": about["bytes"], "sha256": about["sha256"]} for name, about in files.items()}


def _file_fault(file: Path, about: dict[str, Any]) -> str | None:
    try:
        if not file.is_file():
            return f"{file.name} is missing"
        if file.stat().st_size != about["bytes"]:
            return f"{file.name} has {file.stat().st_size} bytes, not {about['bytes']}"
        return None if sha256(file) == about["sha256"] else f"{file.name} was changed"
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"


def read_training(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's `training.json`."""
    return json.loads((path / TRAINING).read_text())


def load(path: Path, engine: Engine, num_updates: int) -> None:
    """Bring a checkpoint's weights, moments and random numbers into a prepared engine (collective).

    Raises:
        CheckpointError: if the checkpoint is of other parameters, or of the same in other shapes.
    """
    saved, trained = read_training(path)["shapes"], trained_shapes(engine)
    if saved.keys() != trained.keys():
        raise CheckpointError(
            f"{path}: other parameters are trained now: {_some(trained.keys() - saved.keys())} are not in it, "
            f"{_some(saved.keys() - trained.keys())} are in it alone; see finetune"
        )
    other = [f"{name} was {saved[name]} and is {shape}" for name, shape in trained.items() if saved[name] != shape]
    if other:
        raise CheckpointError(
            f"{path}: {len(other)} parameters have other shapes now: {'; '.join(other[:3])}; use another output_dir"
        )
    files = read_manifest(path)
    reader = StretchReader(path / name for name in sorted(files) if name.startswith("state-"))
    restore(engine, reader, num_updates)
    own = f"random-{engine.rank:05d}.safetensors"
    if own in files:
        set_random_state(StretchReader([path / own]), engine.device)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"


def _set_aside(paths: Iterable[Path]) -> None:
    """Rename broken checkpoints, out of the way of those that will be written again at their steps."""
    for path in paths:
        path.rename(free_name(path, "broken"))
