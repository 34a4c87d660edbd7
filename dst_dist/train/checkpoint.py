"""Checkpoints that cannot be half there: written beside, flushed, checksummed, then renamed.

    checkpoints/step-00000100/  state-00000.safetensors ...  random-00000.safetensors ...  training.json  MANIFEST.json

MANIFEST.json has the size and sha256 of every other file and is written last. Only safetensors and JSON
are read back.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dst_dist.errors import CheckpointError
from dst_dist.logs import logger
from dst_dist.train.engine import Engine
from dst_dist.train.engine_state import held_state, restore, stretches
from dst_dist.train.state_files import Stretch, StretchReader, file_sha256, write_stretches

MANIFEST, TRAINING = "MANIFEST.json", "training.json"
NAME = re.compile(r"step-(\d{8})")
UNFINISHED, BROKEN = ".unfinished", ".broken"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        keep: so many of the newest stay; the one that `best` points at stays too.
        fault: called with the name of each instant at which a crash would be awkward; for tests.
    """

    def __init__(self, run_folder: Path, keep: int, fault: Callable[[str], None] = lambda point: None):
        self.run_folder = run_folder
        self.folder = run_folder / "checkpoints"
        self.keep = keep
        self.fault = fault

    def save(self, engine: Engine, step: int, training: dict[str, Any], is_best: bool) -> Path:
        """Write one checkpoint, each process its part; replaces nothing (collective).

        Raises:
            OSError: on every process, if writing failed on any; earlier checkpoints still stand.
        """
        target = self.folder / f"step-{step:08d}"
        if engine.from_main(target.exists()):
            self._point(engine, target, is_best)
            return target
        beside = self.folder / (target.name + UNFINISHED)
        if engine.is_main:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
        engine.wait()
        problem, digests = None, {}
        try:
            digests = self._write_own_files(engine, beside)
            if engine.is_main:
                _write_json(beside / TRAINING, training)
                digests[TRAINING] = file_sha256(beside / TRAINING)
        except OSError as error:
            problem = error
        everyones = engine.gather_objects((digests, str(problem) if problem else None))
        problems = [text for _, text in everyones if text]
        if problems:
            raise problem or OSError(problems[0])
        if engine.is_main:
            self._complete(beside, target, {name: digest for part, _ in everyones for name, digest in part.items()})
        engine.wait()
        self._point(engine, target, is_best)
        return target

    def _write_own_files(self, engine: Engine, folder: Path) -> dict[str, str]:
        self.fault("before state")
        state, chance = f"state-{engine.rank:05d}.safetensors", f"random-{engine.rank:05d}.safetensors"
        digests = {state: write_stretches(folder / state, stretches(held_state(engine)))}
        self.fault("after state")
        digests[chance] = write_stretches(folder / chance, random_state(engine.device))
        self.fault("after random")
        return digests

    def _complete(self, beside: Path, target: Path, digests: dict[str, str]) -> None:
        files = {name: {"bytes": (beside / name).stat().st_size, "sha256": digest} for name, digest in digests.items()}
        self.fault("before manifest")
        _write_json(beside / MANIFEST, {"files": files})
        self.fault("after manifest")
        _flush_folder(beside)
        self.fault("before rename")
        beside.rename(target)
        self.fault("after rename")
        _flush_folder(self.folder)

    def _point(self, engine: Engine, target: Path, is_best: bool) -> None:
        """Move the links, then prune: nothing goes before the new one stands (collective)."""
        if engine.is_main:
            self._link("last", target)
            if is_best:
                self._link("best", target)
            self.fault("before prune")
            self._prune()
            self.fault("after prune")
        engine.wait()

    def _link(self, name: str, target: Path) -> None:
        beside = self.run_folder / f".{name}{UNFINISHED}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(target.relative_to(self.run_folder))
        self.fault(f"before link {name}")
        beside.replace(self.run_folder / name)

    def _prune(self) -> None:
        best = self.run_folder / "best"
        kept = {best.resolve().name} if best.is_symlink() else set()
        good = [path for path in self.existing() if (path / MANIFEST).is_file()]
        for path in good[: -self.keep]:
            if path.name not in kept:
                # Renamed first, so that a half removed one is never taken for a checkpoint.
                doomed = path.with_name(path.name + UNFINISHED)
                path.rename(doomed)
                self.fault("inside prune")
                shutil.rmtree(doomed)

    def existing(self) -> list[Path]:
        """Checkpoints by name, oldest first; whether they are good is not said."""
        return sorted(path for path in self.folder.glob("step-*") if NAME.fullmatch(path.name))

    def newest_valid(self, engine: Engine) -> Path | None:
        """The newest checkpoint whose every byte is as it was written; each is read once (collective).

        What is broken, or was never finished, is said in the log.
        """
        for path in reversed(engine.from_main(self.existing())):
            faults = [text for part in engine.gather_objects(self._verify_part(path, engine)) for text in part]
            if not faults:
                return path
            logger.warning("%s cannot be used, the one before is tried: %s", path, "; ".join(sorted(set(faults))))
            if engine.is_main:
                # Out of the way of the one that training will write again at this step.
                path.rename(_free_name(path, BROKEN))
        return None

    def clear_unfinished(self) -> None:
        """Remove what a killed process left half written; called by one process."""
        for path in self.folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(path)

    def _verify_part(self, path: Path, engine: Engine) -> list[str]:
        """This process's share of the files."""
        try:
            files = json.loads((path / MANIFEST).read_text())["files"]
        except (OSError, ValueError, KeyError) as error:
            return [f"no readable {MANIFEST} ({type(error).__name__})"]
        faults = []
        for name in sorted(files)[engine.rank :: engine.num_processes]:
            file = path / name
            if not file.is_file():
                faults.append(f"{name} is missing")
            elif file.stat().st_size != files[name]["bytes"]:
                faults.append(f"{name} has {file.stat().st_size} bytes, not {files[name]['bytes']}")
            elif file_sha256(file) != files[name]["sha256"]:
                faults.append(f"{name} was changed")
        return faults


def read_training(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its run."""
    return json.loads((path / TRAINING).read_text())


def load(path: Path, engine: Engine, num_updates: int, trained: set[str]) -> None:
    """Bring a checkpoint's weights, moments and random numbers into a prepared engine (collective).

    Args:
        trained: names of the trained parameters.

    Raises:
        CheckpointError: if the checkpoint is of other parameters.
    """
    reader = StretchReader(sorted(path.glob("state-*.safetensors")))
    saved = {name.rpartition("/")[0] for name in reader.names}
    if saved != trained:
        raise CheckpointError(
            f"{path}: other parameters are trained now: {_some(trained - saved)} are not in it, "
            f"{_some(saved - trained)} are in it alone; see finetune"
        )
    restore(engine, reader, num_updates)
    own = path / f"random-{engine.rank:05d}.safetensors"
    if own.is_file():
        set_random_state(StretchReader([own]), engine.device)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"


def random_state(device: torch.device) -> list[Stretch]:
    """The state of every random generator of this process."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    assert kind == "MT19937"
    version, words, spare = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, *_as_ints(gauss)]),
        "python": torch.tensor(words),
        "python_rest": torch.tensor([version, spare is not None, *_as_ints(spare or 0.0)]),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return [Stretch(name, 0, values) for name, values in states.items()]


def set_random_state(reader: StretchReader, device: torch.device) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(_read(reader, "torch", torch.uint8, len(torch.get_rng_state())))
    position, has_gauss, gauss = _read(reader, "numpy_rest", torch.int64, 3).tolist()
    keys = _read(reader, "numpy", torch.int64, 624).numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, _as_float(gauss)))
    version, has_spare, spare = _read(reader, "python_rest", torch.int64, 3).tolist()
    random.setstate((version, tuple(_read(reader, "python", torch.int64, 625).tolist()), _as_float(spare) if has_spare else None))
    if device.type == "cuda" and "cuda" in reader.names:
        torch.cuda.set_rng_state(_read(reader, "cuda", torch.uint8, len(torch.cuda.get_rng_state(device))), device)


def _read(reader: StretchReader, name: str, dtype: torch.dtype, length: int) -> torch.Tensor:
    values = torch.empty(length, dtype=dtype)
    reader.fill(name, 0, values)
    return values


def _as_ints(value: float) -> list[int]:
    """A float64 by its bits, so that it comes back exactly."""
    return [int(np.float64(value).view(np.int64))]


def _as_float(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))


def _free_name(path: Path, ending: str) -> Path:
    number = 1
    while (name := path.with_name(f"{path.name}{ending}-{number}")).exists():
        number += 1
    return name


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with open(path, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Make renames and new files in a folder last; file systems without it raise nothing here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
