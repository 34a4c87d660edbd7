"""Data workers share the clips of the process that they are forked from, instead of copying them bit by bit."""

import dataclasses
import os
from collections import defaultdict

import pytest
import torch.utils.data

from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.data.reading import read_clips
from tests.data.handmade import make_root

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")

NUM_CLIPS = 20_000
NUM_WORKERS = 4
LIMIT_MIB = 20


def private_mib():
    """Memory of this process that it shares with no other."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


class Worker:
    """Memory of a data worker at its start."""

    private_at_start = 0.0


def start_worker(_):
    Worker.private_at_start = private_mib()


def report(_):
    return os.getpid(), private_mib() - Worker.private_at_start


class Reading(torch.utils.data.Dataset):
    """Reads every turn of a clip; its items are lengths."""

    def __init__(self, clips):
        self.clips = clips

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, position):
        clip = self.clips[position]
        if isinstance(clip, Clip):
            return sum(len(turn.role) + len(turn.text) + turn.frame for turn in clip.turns)
        return sum(len(turn["role"]) + len(turn["text"]) + turn["frame"] for turn in clip["turns"])


def growth_per_worker(clips):
    """The largest growth of each worker's private memory, in MiB, over an epoch."""
    loader = torch.utils.data.DataLoader(
        Reading(clips),
        batch_size=100,
        shuffle=True,
        num_workers=NUM_WORKERS,
        multiprocessing_context="fork",
        worker_init_fn=start_worker,
        collate_fn=report,
        generator=torch.Generator().manual_seed(0),
    )
    growth = defaultdict(float)
    for process, mib in loader:
        growth[process] = max(growth[process], mib)
    return list(growth.values())


@pytest.fixture(scope="module")
def some_clip(tmp_path_factory):
    """A hand-made clip, with as many turns as real ones have, of their length."""
    index, _, _ = read_clips(make_root(tmp_path_factory.mktemp("root")), ["toys"], "train", strict=True)
    turns = tuple(dataclasses.replace(turn, text=turn.text.ljust(110, ".")) for turn in index[0].turns * 3)
    assert len(turns) == 21
    return dataclasses.replace(index[0], turns=turns)


def numbered(clip, number):
    """The clip with its own strings."""
    turns = tuple(dataclasses.replace(turn, text=f"{turn.text}{number}") for turn in clip.turns)
    return dataclasses.replace(clip, id=f"{clip.id}/{number}", turns=turns)


def as_dict(clip):
    turns = [
        {"role": turn.role, "text": turn.text, "first_frame": turn.first_frame, "frame": turn.frame}
        for turn in clip.turns
    ]
    return {"id": clip.id, "turns": turns}


def test_workers_share_the_index(some_clip):
    index = ClipIndex.from_clips(numbered(some_clip, number) for number in range(NUM_CLIPS))
    assert len(index) == NUM_CLIPS
    growth = growth_per_worker(index)
    assert len(growth) == NUM_WORKERS
    assert max(growth) <= LIMIT_MIB


def test_a_list_of_dicts_fails_that_test(some_clip):
    clips = [as_dict(numbered(some_clip, number)) for number in range(NUM_CLIPS)]
    growth = growth_per_worker(clips)
    assert len(growth) == NUM_WORKERS
    assert min(growth) > LIMIT_MIB
