"""From video files to frames files."""

import io
import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from dst_dist import cli
from dst_dist.build.frames import make_frames
from dst_dist.data.frames import open_frames
from dst_dist.data.images import decode_jpeg
from dst_dist.data.video_files import Stated
from dst_dist.errors import ConfigError, DataError
from tests.data.videos import write_video

SHADES, TIMES_MS = [20, 60, 100, 140, 180, 220], [3000, 3100, 3450, 3600, 4400, 4600]


def shades(path) -> list[int]:
    file = open_frames(str(path))
    return [round(decode_jpeg(file.jpeg(row)).mean() / 20) for row in range(len(file))]


def test_each_row_is_what_the_video_shows_at_its_time(tmp_path):
    """Variable rate, and a clock that starts at 3 s: at 0, 0.5, 1.0 and 1.5 s, then 0.25 s apart."""
    write_video(tmp_path / "tea.mp4", SHADES, TIMES_MS)
    for fps, found in ((2.0, [1, 5, 7, 9]), (4.0, [1, 3, 5, 7, 7, 7, 9])):
        lines = list(make_frames([tmp_path / "tea.mp4"], tmp_path / "frames", fps, None))
        assert shades(tmp_path / "frames/tea.arrow")[: len(found)] == found
        beside = json.loads((tmp_path / "frames/tea.json").read_text())
        assert beside["fps"] == fps and f"{beside['num_frames']} frames" in lines[0]


@pytest.mark.parametrize(("size", "shape"), [(None, (48, 64)), (32, (24, 32)), (100, (48, 64))])
def test_frames_keep_their_shape(tmp_path, size, shape):
    write_video(tmp_path / "tea.mp4", [50], [0])
    list(make_frames([tmp_path / "tea.mp4"], tmp_path, 2.0, size))
    assert np.asarray(Image.open(io.BytesIO(open_frames(str(tmp_path / "tea.arrow")).jpeg(0)))).shape[:2] == shape


def test_what_is_there_as_asked_for_is_left_alone(tmp_path):
    for name in ("tea.mp4", "soup.mp4"):
        write_video(tmp_path / name, SHADES, TIMES_MS)
    videos = [tmp_path / "tea.mp4", tmp_path / "soup.mp4"]

    def again(fps=2.0):
        return [line.endswith("there already") for line in make_frames(videos, tmp_path / "frames", fps, 32)]

    assert again() == [False, False] and again() == [True, True]
    # Stopped before the rows were in place, and a video that has changed.
    (tmp_path / "frames/tea.arrow").unlink()
    write_video(tmp_path / "soup.mp4", SHADES[:3], TIMES_MS[:3])
    assert again() == [False, False] and again() == [True, True]
    assert again(fps=1.0) == [False, False]


def test_all_broken_videos_are_named_and_the_others_written(tmp_path):
    write_video(tmp_path / "tea.mp4", SHADES, TIMES_MS)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video")
    videos = [tmp_path / name for name in ("a.mp4", "tea.mp4", "b.mp4")]
    with pytest.raises(DataError, match=r"(?s)a\.mp4.*b\.mp4"):
        list(make_frames(videos, tmp_path / "frames", 2.0, None))
    assert [path.name for path in sorted((tmp_path / "frames").iterdir())] == ["tea.arrow", "tea.json"]


def test_missing_videos_and_equal_names_are_faults_before_anything_is_decoded(tmp_path):
    write_video(tmp_path / "tea.mp4", [50], [0])
    write_video(tmp_path / "tea.mkv", [50], [0])
    videos = [tmp_path / name for name in ("tea.mp4", "tea.mkv", "none.mp4")]
    with pytest.raises(ConfigError, match="2 faults"):
        list(make_frames(videos, tmp_path / "frames", 2.0, None))
    assert not (tmp_path / "frames").exists()


def test_a_video_that_ends_early_is_said_to(tmp_path, monkeypatch):
    write_video(tmp_path / "tea.mp4", SHADES, TIMES_MS)
    monkeypatch.setattr("dst_dist.build.frames.stated", lambda path: Stated(60.0, Fraction(1)))
    (line,) = make_frames([tmp_path / "tea.mp4"], tmp_path / "frames", 2.0, None)
    assert line.endswith("the video says that it lasts 60.0 s: its end cannot be decoded")


def test_the_verb(tmp_path, capsys):
    write_video(tmp_path / "tea.mp4", SHADES, TIMES_MS)
    assert cli.main(["frames", str(tmp_path / "tea.mp4"), "--out", str(tmp_path / "frames"), "--size", "32"]) == 0
    assert "tea.arrow" in capsys.readouterr().out
