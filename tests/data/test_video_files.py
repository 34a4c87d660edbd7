"""Frames of a video by its own times."""

import gc
import os
from fractions import Fraction
from types import SimpleNamespace

import pytest

from dst_dist.data.video_files import read_container, sample, stated
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


@pytest.mark.parametrize(
    ("times", "duration"),
    [
        # Two files joined; more pictures behind the latest time than a coder puts out of order.
        ((0, 40, 80, 1000, 0, 40, 80), 40),
        ((0, 40, 800, 100), 40),
        # 16 frames of unknown length cannot be counted.
        ((0, 600, 0), 0),
        ((-500, 500, -500), 0),
    ],
)
def test_times_that_go_backwards_raise(times, duration):
    frames = [SimpleNamespace(pts=at, duration=duration, time_base=Fraction(1, 1000)) for at in times]
    with pytest.raises(DataError, match=r"joined\.ts: .* go back by .* ffmpeg -i"):
        list(sample(frames, 2.0, "joined.ts"))


@pytest.mark.parametrize(
    ("times", "duration"),
    [
        ((0, 0, 40, 40, 80), 40),
        # AVI files with B-frames, by the order in which they are stored.
        ((40, 160, 120, 200, 80, 320, 280, 360, 240), 40),
        # MPEG program streams state few of their times.
        ((0, 240, 0, 280), 0),
        # One picture a second.
        ((0, 4000, 2000, 3000, 1000), 1000),
    ],
)
def test_times_that_are_a_little_out_of_order_are_harmless(times, duration):
    frames = [SimpleNamespace(pts=at, duration=duration, time_base=Fraction(1, 1000)) for at in times]
    assert list(sample(frames, 2.0, "video"))


FRAME = Fraction(1, 25)
ORDINARY = [
    ("tea.mp4", "libx264"),
    ("tea.mkv", "libx264"),
    ("tea.ts", "libx264"),
    ("tea.avi", "libx264"),
    ("tea.flv", "libx264"),
    ("tea.ts", "mpeg2video"),
    ("tea.mpg", "mpeg2video"),
    ("tea.vob", "mpeg2video"),
    ("tea.asf", "mpeg2video"),
    ("tea.mov", "mpeg4"),
    ("tea.avi", "mpeg4"),
    ("tea.webm", "libvpx-vp9"),
]
"""Containers and codecs, most of them with B-frames; some state times that are out of order."""


@pytest.mark.parametrize("begin_ms", [0, 3000, -400])
@pytest.mark.parametrize(("name", "codec"), ORDINARY)
def test_ordinary_files_raise_no_alarm(tmp_path, name, codec, begin_ms):
    path = tmp_path / name
    options = {"bf": "7"} if codec in ("libx264", "mpeg2video") else {"bf": "2"} if codec == "mpeg4" else {}
    write_video(
        path, range(0, 240, 2), [begin_ms + 40 * n for n in range(120)], codec=codec, options=options, tick=FRAME
    )
    num_rows, length = len(list(read_container(path, 2.0))), stated(path).length_s
    assert num_rows >= 9 and (length is None or length < num_rows / 2.0 + 0.5)


def test_joined_files_raise(tmp_path):
    write_video(tmp_path / "a.ts", [10] * 30, [40 * n for n in range(30)], codec="mpeg2video", tick=FRAME)
    (tmp_path / "joined.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    with pytest.raises(DataError, match=r"joined\.ts: its times go back by 1\.16 s after 1\.16 s"):
        list(read_container(tmp_path / "joined.ts", 2.0))


@pytest.mark.parametrize(
    ("name", "codec", "sound_s", "begin_ms", "length"),
    [
        ("tea.mp4", "mpeg4", 0, 0, 2.0),
        ("tea.mp4", "mpeg4", 10, 0, 2.0),
        ("tea.mkv", "mpeg4", 0, 0, 2.0),
        # Sound may be longer than the pictures.
        ("tea.mkv", "mpeg4", 10, 0, 2.0),
        ("tea.webm", "libvpx-vp9", 10, 0, 2.0),
        # Matroska, ASF and AVI count from 0, wherever the first frame is.
        ("tea.mkv", "mpeg4", 0, 5000, 2.0),
        ("tea.asf", "mpeg4", 0, 5000, 2.0),
        # Writers of FLV count in different ways.
        ("tea.flv", "flv", 0, 5000, None),
    ],
)
def test_a_video_says_how_long_it_lasts(tmp_path, name, codec, sound_s, begin_ms, length):
    times = [begin_ms + at for at in (0, 500, 1000, 1500, 2000)]
    write_video(tmp_path / name, [10] * 5, times, codec=codec, sound_s=sound_s)
    assert stated(tmp_path / name).length_s == (length and pytest.approx(length, abs=0.05))


def test_a_length_that_is_not_stated_is_none(tmp_path):
    write_video(
        tmp_path / "tea.mkv",
        [10] * 50,
        range(0, 2000, 40),
        codec="mpeg2video",
        tick=FRAME,
        container_options={"live": "1"},
    )
    assert stated(tmp_path / "tea.mkv").length_s is None


@pytest.mark.parametrize("name", ["tea.mp4", "tea.mkv"])
@pytest.mark.parametrize("shape", [Fraction(16, 15), Fraction(3, 4), Fraction(1), None])
def test_a_video_says_the_shape_of_its_pixels(tmp_path, name, shape):
    write_video(tmp_path / name, [10], [0], pixel_shape=shape)
    assert stated(tmp_path / name).pixel_shape == (shape or 1)


def test_pictures_and_threads_do_not_wait_for_the_garbage_collector(tmp_path):
    """It comes late, and hours of video would fill the memory before."""
    write_video(tmp_path / "tea.mp4", [10] * 20, range(0, 1000, 50))
    gc.collect()
    threads = len(os.listdir("/proc/self/task"))
    gc.disable()
    try:
        assert len(list(read_container(tmp_path / "tea.mp4", 20.0))) == 20
        pictures = sum(type(thing).__name__ == "VideoFrame" for thing in gc.get_objects())
        assert (pictures, len(os.listdir("/proc/self/task"))) == (1, threads)
    finally:
        gc.enable()
