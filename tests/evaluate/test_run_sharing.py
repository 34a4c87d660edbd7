"""Each process streams its own videos, whole ones."""

from dataclasses import replace

from dst_dist.evaluate.run import own_clips
from tests.data.dialogs import make_clip
from tests.train.fake_engine import on_processes


def test_every_clip_belongs_to_one_process_with_the_others_of_its_video():
    sizes = {"a": 10, "b": 100, "c": 30, "d": 60, "e": 20}
    clips = [replace(make_clip(end=number // 2), video=video) for video, number in sizes.items() for _ in range(2)]
    shares, _ = on_processes(2, lambda engine: own_clips(clips, engine))
    assert shares == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
