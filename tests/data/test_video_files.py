"""Frames of a video by its own times."""

import gc
import os
from fractions import Fraction
from types import SimpleNamespace

import pytest

from dst_dist.data.video_files import length_s, read_container, sample
from dst_dist.errors import DataError
from tests.data.videos import write_video


def frames_at(*times, last=0, base=Fraction(1, 1000)):
    """Return frames of these times in ticks; only the last's duration is known."""
    durations = [0] * (len(times) - 1) + [last]
    return [
        SimpleNamespace(pts=at, duration=how_long, time_base=base)
        for at, how_long in zip(times, durations, strict=True)
    ]


@pytest.mark.parametrize(
    "times, last, fps, expected",
    [
        # 4 a second sampled at 2.
        ((0, 250, 500, 750), 250, 2.0, [0, 500]),
        # The last frame is seen as long as it lasts.
        ((0, 1000), 1000, 2.0, [0, 0, 1000, 1000]),
        # Variable rate: the last frame at or before 0, 0.5, 1.0, 1.5 s.
        ((0, 100, 499, 501, 1400), 200, 2.0, [0, 499, 501, 1400]),
        # The container's clock starts anywhere, also below 0.
        ((-40, 460, 960), 0, 2.0, [-40, 460, 960]),
        ((7000, 7250, 7500), 0, 2.0, [7000, 7500]),
        # 3 a second in whole milliseconds: 667 stands for 666.67.
        ((0, 333, 667, 1000), 0, 3.0, [0, 333, 667, 1000]),
        # A frame one tick late comes at the next sampling time.
        ((0, 501, 1002), 0, 2.0, [0, 0, 501]),
        ((5,), 0, 2.0, [5]),
    ],
)
def test_each_sampling_time_gets_the_last_frame_before_it(times, last, fps, expected):
    assert [frame.pts for frame in sample(frames_at(*times, last=last), fps, "video")] == expected


def test_ntsc_rates_do_not_drift():
    """Ten minutes at 30000/1001 sampled at that rate is every frame once."""
    frames = (
        SimpleNamespace(pts=number * 1001, duration=1001, time_base=Fraction(1, 30000)) for number in range(18000)
    )
    assert [frame.pts // 1001 for frame in sample(frames, 30000 / 1001, "video")] == list(range(18000))


def test_sampling_holds_two_frames_at_most():
    alive = set()

    class Frame(SimpleNamespace):
        def __del__(self):
            alive.discard(self.pts)

    def decoded():
        for pts in range(1000):
            alive.add(pts)
            yield Frame(pts=pts, duration=1, time_base=Fraction(1, 100))

    assert max(len(alive) for _ in sample(decoded(), 50.0, "video")) <= 3


def test_frames_without_times_raise():
    with pytest.raises(DataError, match="carry no times"):
        list(sample([SimpleNamespace(pts=None)], 2.0, "raw.h264"))
    with pytest.raises(DataError, match="no frame"):
        list(sample([], 2.0, "empty.mp4"))


def test_a_video_says_how_long_it_lasts(tmp_path):
    write_video(tmp_path / "tea.mp4", [10] * 5, [0, 500, 1000, 1500, 2000])
    assert length_s(tmp_path / "tea.mp4") == pytest.approx(2.0, abs=0.05)


def test_pictures_and_threads_do_not_wait_for_the_garbage_collector(tmp_path):
    """It comes late, and hours of video would fill the memory before."""
    write_video(tmp_path / "tea.mp4", [10] * 20, range(0, 1000, 50))
    threads = len(os.listdir("/proc/self/task"))
    gc.collect()
    gc.disable()
    try:
        assert len(list(read_container(tmp_path / "tea.mp4", 20.0))) == 20
        pictures = sum(type(thing).__name__ == "VideoFrame" for thing in gc.get_objects())
        assert (pictures, len(os.listdir("/proc/self/task"))) == (1, threads)
    finally:
        gc.enable()
