"""Which process streams which videos, and how long the others wait."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch

from dst_dist.errors import ConfigError
from dst_dist.evaluate import sharing
from tests.data.dialogs import make_clip


def clips_of(**num_frames):
    """Return two clips of each video, each with half of its frames."""
    return [replace(make_clip(end=number // 2), video=video) for video, number in num_frames.items() for _ in range(2)]


def share_of(clips, rank, number):
    return sharing.share_of(clips, SimpleNamespace(rank=rank, num_processes=number))


def test_whole_videos_go_to_the_least_loaded_process():
    """Longest first: 100 to the first, 60 and 30 to the second, 20 to it as well (90 < 100), 10 to the first."""
    clips = clips_of(a=10, b=100, c=30, d=60, e=20)
    shares = [share_of(clips, rank, 2) for rank in range(2)]
    assert shares == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


def test_every_clip_belongs_to_one_process():
    clips = clips_of(a=10, b=100, c=30)
    for number in (1, 2, 3, 5):
        shares = [share_of(clips, rank, number) for rank in range(number)]
        assert sorted(sum(shares, [])) == list(range(6))


def joined(monkeypatch, launched, seen):
    """Start a process of these numbers; return the settings that Accelerate is given."""
    given = {}

    def state(**settings):
        given.update(settings)
        return SimpleNamespace(num_processes=seen, process_index=0, device=torch.device("cpu"))

    monkeypatch.setattr(sharing, "PartialState", state)
    monkeypatch.setattr("dst_dist.processes.dist.is_initialized", lambda: True)
    monkeypatch.setattr("dst_dist.processes.dist.get_world_size", lambda: launched)
    monkeypatch.setenv("WORLD_SIZE", str(launched))
    sharing.start_processes()
    return given


def test_one_may_take_hours_longer_than_another(monkeypatch):
    assert joined(monkeypatch, 2, 2)["timeout"] >= timedelta(hours=12)


def test_processes_that_do_not_see_each_other_raise(monkeypatch):
    with pytest.raises(ConfigError, match="2 processes were launched, but Accelerate sees 1"):
        joined(monkeypatch, 2, 1)
