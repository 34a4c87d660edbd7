"""Recipes of short runs to cut and resume, and the comparison of two runs."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

MODES = {
    # Dropout, so that the random state counts.
    "lora": ("finetune.mode=lora", "finetune.train.vision=false", "finetune.lora={rank: 4, alpha: 8, dropout: 0.1}"),
    "full": ("finetune.mode=full",),
}
IN_BACKGROUND, IN_FOREGROUND = "checkpoint.background=true", "checkpoint.background=false"
SPEED = {
    "tokens_per_s",
    "frames_per_s",
    "data_wait_share",
    "mfu",
    "peak_memory_gib",
    "checkpoint_s",
    "checkpoint_write_s",
}
"""Fields that differ between any two runs."""


def cut_words(demo_words, mode: str = "lora", *extra: str) -> list[str]:
    """Return a recipe of 9 clips of 16 frames: an epoch is steps of 4, 4 and 1, a clip a micro-batch; saved often."""
    return [
        "demo",
        *demo_words,
        *MODES[mode],
        "data.train=[kitchen]",
        "data.val=[garden]",
        "data.num_workers=0",
        "train.global_batch_size=4",
        "train.max_frames=16",
        "train.max_steps=7",
        "optim.learning_rate=2e-3",
        "optim.warmup_steps=2",
        "eval.every_steps=3",
        "eval.max_clips=3",
        "checkpoint.every_steps=1",
        "log.report_to=[]",
        *extra,
    ]


def status_of(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def curve(folder: Path) -> dict[tuple[str, int], dict]:
    """Return everything logged of each step and evaluation except SPEED; the later line counts."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {
        (line["split"], line["step"]): {key: value for key, value in line.items() if key not in SPEED} for line in lines
    }


def checksums(checkpoint: Path) -> dict[str, str]:
    """Return the sha256 of each process's weights, moments and random state."""
    files = json.loads((checkpoint / "MANIFEST.json").read_text())["files"]
    return {name: about["sha256"] for name, about in files.items() if name != "training.json"}


def whole_state(folder: Path) -> dict[str, torch.Tensor]:
    """Return the flat tensors of a checkpoint, joined over the processes that wrote them."""
    places: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for file in folder.glob("state-*.safetensors"):
        for key, values in load_file(file).items():
            name, _, start = key.rpartition("@")
            places.setdefault(name, []).append((int(start), values))
    return {
        name: torch.cat([values for _, values in sorted(parts, key=lambda part: part[0])])
        for name, parts in places.items()
    }


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Return whether the tensors are bitwise equal."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "final").glob("*.safetensors")
    return load_file(file)


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Compare losses, metrics, rates, weights, moments and random state bitwise, and links and status."""
    assert curve(ours) == curve(theirs)
    assert same(final_weights(ours), final_weights(theirs))
    for link in ("last", "best"):
        assert (ours / link).resolve().name == (theirs / link).resolve().name, link
    assert checksums(ours / "last") == checksums(theirs / "last")
    progress = [json.loads((folder / "last/training.json").read_text())["progress"] for folder in (ours, theirs)]
    assert progress[0] == progress[1]
    assert status_of(ours) == status_of(theirs)
    assert not [path for path in (ours / "checkpoints").iterdir() if "." in path.name]


def clips_by_step(*folders: Path) -> dict[tuple[int, int], list]:
    """Return (rank, step) -> the clips of each micro-batch; of several starts the last one that trained the step."""
    found: dict[tuple[int, int], list] = {}
    for file in (file for folder in folders for file in folder.glob("*.jsonl")):
        of_start: dict[tuple[int, int], list] = {}
        for step, epoch, clips in map(json.loads, file.read_text().splitlines()):
            of_start.setdefault((int(file.stem), step), []).append((epoch, clips))
        found |= of_start
    return found
