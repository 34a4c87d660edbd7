"""What `dst-dist frames` says of videos and of its options."""

import os
from fractions import Fraction

import pytest

from dst_dist import cli
from dst_dist.build.frames import make_frames
from tests.data.videos import write_video

SHADES, TIMES_MS = [20, 60, 100, 140], [0, 500, 1000, 1500]


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "tea.mp4", SHADES, TIMES_MS)
    return tmp_path / "tea.mp4"


def test_a_missing_end_is_said_again(tmp_path):
    write_video(tmp_path / "tea.mkv", [number % 256 for number in range(300)], range(0, 12000, 40))
    whole = (tmp_path / "tea.mkv").read_bytes()
    (tmp_path / "tea.mkv").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        (line,) = make_frames([tmp_path / "tea.mkv"], tmp_path / "frames", 2.0, None)
        assert line.endswith("the video says that it lasts 12.0 s: its end cannot be decoded")
    assert "there already" in line


def test_pixels_that_are_not_square_are_said(tmp_path, video):
    write_video(tmp_path / "pal.mp4", SHADES, TIMES_MS, pixel_shape=Fraction(16, 15))
    for _ in range(2):
        square, pal = make_frames([video, tmp_path / "pal.mp4"], tmp_path / "frames", 2.0, None)
        assert "its pixels" not in square
        assert pal.endswith("its pixels are shown 1.067 times as wide as high: its frames look too narrow")


def test_a_video_that_is_named_twice_is_taken_once(tmp_path, video):
    (tmp_path / "link").symlink_to(tmp_path)
    again = [video, tmp_path / "frames/../tea.mp4", tmp_path / "link/tea.mp4"]
    (tmp_path / "frames").mkdir()
    assert len(list(make_frames([video, *again], tmp_path / "frames", 2.0, None))) == 1


@pytest.mark.parametrize("out", ["tea.mp4", "tea.mp4/frames", "/proc/frames", "closed/frames"])
def test_a_folder_that_cannot_be_written_is_code_2(tmp_path, video, out, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    if out.startswith("closed") and os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this user may write anywhere")
    assert cli.main(["frames", str(video), "--out", str(tmp_path / out)]) == 2
    assert f"--out: {tmp_path / out} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("fps", ["1e-9", "0.0009", "1001", "0"])
def test_rates_that_nobody_means_are_code_2(tmp_path, video, fps, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["frames", str(video), "--out", str(tmp_path / "frames"), "--fps", fps])
    assert ended.value.code == 2 and "say a number from 0.001 to 1000" in capsys.readouterr().err


@pytest.mark.parametrize("fps", ["0.001", "1000"])
def test_the_rates_at_the_bounds_can_be_made(tmp_path, video, fps):
    assert cli.main(["frames", str(video), "--out", str(tmp_path / "frames"), "--fps", fps]) == 0
