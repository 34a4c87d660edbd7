"""Videos and tasks from outside a data root: folders of images, frames files, video files sampled by their times."""

import builtins
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image

from dst_dist.data.clips import Step
from dst_dist.data.frames import write_frames
from dst_dist.data.images import preprocess, to_rgb
from dst_dist.errors import ConfigError, DataError
from dst_dist.streaming.video_input import read_task, read_video
from tests.data.videos import write_video

SIZE = 8


def picture(value, size=(12, 10)):
    return Image.new("RGB", size, (value, value, value))


def values(frames):
    return [int(frame.mean().round()) for frame in frames]


def test_a_folder_is_read_in_the_order_people_mean(tmp_path):
    for name, value in {"frame10.jpg": 100, "frame9.jpeg": 90, "frame2.PNG": 20, "frame011.png": 110}.items():
        picture(value).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    frames = list(read_video(tmp_path, 2.0, SIZE))
    assert values(frames) == [20, 90, 100, 110]
    assert all(frame.shape == (3, SIZE, SIZE) and frame.dtype == np.uint8 for frame in frames)
    with Image.open(tmp_path / "frame10.jpg") as image:
        np.testing.assert_array_equal(frames[2], preprocess(to_rgb(image), SIZE))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["1.jpg", "1.png"])
def test_an_image_with_an_orientation_tag_is_turned(tmp_path, name, orientation):
    """Compared with the stock processor's loader; each corner of the picture has its own brightness."""
    image = Image.fromarray(np.kron(np.array([[0, 60], [120, 240]], np.uint8), np.ones((16, 32), np.uint8)))
    exif = Image.Exif()
    exif[274] = orientation
    image.save(tmp_path / name, exif=exif)
    (frame,) = read_video(tmp_path, 2.0, SIZE)
    np.testing.assert_array_equal(frame, preprocess(to_rgb(load_image(str(tmp_path / name))), SIZE))
    assert (abs(int(frame[0, 0, 0])) < 30) == (orientation in (1, 5))


def test_odd_tags_do_not_keep_an_image_from_being_turned(tmp_path):
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    # The tag of the maker becomes a width, which is no text.
    picture(90).save(tmp_path / "1.jpg", exif=exif.tobytes().replace(b"\x01\x0f", b"\x01\x00"))
    assert values(read_video(tmp_path, 2.0, SIZE)) == [90]


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_a_broken_image_is_named(tmp_path, content):
    picture(1).save(tmp_path / "1.jpg")
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    frames = read_video(tmp_path, 2.0, SIZE)
    next(frames)
    with pytest.raises(DataError, match=r"2\.jpg: cannot be read as an image"):
        next(frames)


def test_a_huge_image_raises_before_it_is_decoded(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match="pixels"):
        list(read_video(tmp_path, 2.0, SIZE))


def test_an_image_of_more_than_eight_bits_raises(tmp_path):
    Image.fromarray(np.full((SIZE, SIZE), 30_000, np.uint16)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1\.png: cannot be read as an image: more than 8 bits a channel"):
        list(read_video(tmp_path, 2.0, SIZE))


def test_a_frames_file_is_read_row_by_row_and_a_broken_row_named(tmp_path):
    jpegs = []
    for value in (10, 200):
        jpegs.append(io.BytesIO())
        picture(value).save(jpegs[-1], "JPEG")
    write_frames(tmp_path / "video.arrow", [*(jpeg.getvalue() for jpeg in jpegs), b"broken"])
    frames = read_video(tmp_path / "video.arrow", 2.0, SIZE)
    assert values([next(frames), next(frames)]) == [10, 200]
    with pytest.raises(DataError, match=r"video\.arrow: frame 2 cannot be read"):
        next(frames)


def test_a_path_that_is_no_video_raises(tmp_path):
    with pytest.raises(DataError, match="no such video"):
        read_video(tmp_path / "nowhere.mp4", 2.0, SIZE)
    with pytest.raises(DataError, match="no image"):
        read_video(tmp_path, 2.0, SIZE)


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "video.mp4").write_bytes(b"something")
    real = builtins.__import__

    def without_av(name, *rest, **options):
        if name == "av":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(ConfigError, match=re.escape("pip install 'dst-dist[video]'")):
        list(read_video(tmp_path / "video.mp4", 2.0, SIZE))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_file_is_sampled_by_its_times(tmp_path, suffix):
    """Variable rate, and a clock that starts at 3 s: at 0, 0.5, 1.0 and 1.5 s."""
    path = tmp_path / f"video{suffix}"
    write_video(path, [20, 60, 100, 140, 180, 220], [3000, 3100, 3450, 3600, 4400, 4600])
    frames = list(read_video(path, 2.0, SIZE))
    assert [round(value / 20) for value in values(frames)][:4] == [1, 5, 7, 9]
    assert len(frames) == 4 and frames[0].shape == (3, SIZE, SIZE)


def test_a_file_that_is_no_video_raises(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed; pip install 'dst-dist[video]'")
    (tmp_path / "video.mp4").write_bytes(b"something else")
    with pytest.raises(DataError, match="video.mp4: cannot be decoded"):
        list(read_video(tmp_path / "video.mp4", 2.0, SIZE))


def written(tmp_path, task):
    path = tmp_path / "tea.json"
    path.write_text(task if isinstance(task, str) else json.dumps(task))
    return path


def test_a_task_of_names_alone(tmp_path):
    clip = read_task(written(tmp_path, {"goal": "Make tea", "steps": ["boil water", "pour"], "prompt": None}))
    assert (clip.id, clip.goal, clip.prompt, clip.fps, clip.start_frame) == ("tea", "Make tea", "", 2.0, 0)
    assert clip.steps == (Step("S1", "boil water"), Step("S2", "pour"))
    assert clip.has_dst and clip.turns == () and clip.initial_state == {}


def test_a_task_with_everything(tmp_path):
    task = {
        "goal": "Make tea",
        "prompt": "Be brief.",
        "fps": 10,
        "steps": [{"id": "boil", "name": "boil water"}, "pour"],
        "initial_dst_state": {"boil": "completed", "S2": "not_started"},
        "user": [{"time_s": 9.99, "text": "And now?"}, {"time_s": 0.7, "text": "Hello"}],
    }
    clip = read_task(written(tmp_path, task))
    assert (clip.prompt, clip.fps, clip.steps[1]) == ("Be brief.", 10, Step("S2", "pour"))
    assert clip.initial_state == {"boil": "completed"}
    assert [(turn.role, turn.text, turn.frame) for turn in clip.turns] == [
        ("user", "Hello", 7),
        ("user", "And now?", 99),
    ]
    assert all(turn.frame < clip.end_frame for turn in clip.turns)


@pytest.mark.parametrize("fps", [0, 1e-9, 1001])
def test_all_faults_of_a_task_are_reported_at_once(tmp_path, fps):
    task = {
        "steps": ["boil", {"id": "S1", "name": "again"}, ""],
        "fps": fps,
        "initial_dst_state": {"S9": "started"},
        "user": [{"time_s": -1, "text": "Hm"}, {"text": " "}],
        "gaol": "x",
    }
    with pytest.raises(DataError) as error:
        read_task(written(tmp_path, task))
    report = "\n".join(error.value.faults)
    for part in (
        "`goal` is missing",
        "`gaol`",
        "`fps`",
        "`steps[2].name`",
        "`initial_dst_state.S9`",
        "names 'S9'",
        "'S1' more than once",
        "`user[0].time_s`",
        "`user[1].time_s` is missing",
        "`user[1].text`",
    ):
        assert part in report, (part, report)
    assert all("tea.json" in fault for fault in error.value.faults)


@pytest.mark.parametrize(
    "text, fault", [("{", "cannot be read as JSON"), ("[1]", "must be an object"), ('"x"', "must be an object")]
)
def test_a_file_that_is_no_task_raises(tmp_path, text, fault):
    with pytest.raises(DataError, match=fault):
        read_task(written(tmp_path, text))
    with pytest.raises(DataError, match="cannot be read"):
        read_task(tmp_path / "nowhere.json")
