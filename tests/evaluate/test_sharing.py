"""Which process streams which videos."""

from dataclasses import replace
from types import SimpleNamespace

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
