"""Rows a second of a frames file."""

import pytest

from dst_dist.build.dialogs import read_dialogs
from dst_dist.build.rates import NO_FRAMES, Rate, find_rate, rate_file, rows_per_second
from dst_dist.data.frames import write_frames
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import Report
from dst_dist.errors import DataError
from tests.build.raw import video, write


@pytest.mark.parametrize(
    ("source", "rows"),
    [(30, 2.0), (50, 2.0), (60, 2.0), (25, 2.083), (29.97, 2.141), (59.94, 2.067), (24.46, 2.038), (1, 1.0)],
)
def test_rates_that_proassists_sampling_gives(source, rows):
    assert rows_per_second(source) == pytest.approx(rows, abs=5e-4)


@pytest.mark.parametrize(
    ("source", "rows", "told", "rate", "num_counted"),
    [
        (None, None, None, 2.0, 1),
        (29.97, None, None, 2.1407, 1),
        (29.97, None, 2.0, 2.0, 0),
        (None, 200, None, 2.0, 0),
        (None, 214, None, 2.1407, 0),
        (29.97, 214, None, 2.1407, 0),
        (29.97, 200, None, 2.0, 0),
        (29.97, 150, None, 2.1407, 1),
        (None, 99, None, 2.0, 1),
        (None, 214, 2.0, 2.0, 1),
    ],
)
def test_the_length_of_the_frames_file_decides(tmp_path, source, rows, told, rate, num_counted):
    raw = video(annotations={"fps": source, "duration": 100.0})
    (found,) = read_dialogs([write(tmp_path / "train.json", [raw])], Report())
    if rows is not None:
        write_frames(tmp_path / "ego4d/frames/tea.arrow", [b"x"] * rows)
    report = Report()
    assert find_rate(found, FramesFinder(tmp_path), told, report) == Rate(pytest.approx(rate, abs=1e-3), rows)
    assert sum(report.counts.values()) == num_counted


def test_a_rate_written_beside_the_frames_is_taken(tmp_path):
    (found,) = read_dialogs([write(tmp_path / "train.json", [video()])], Report())
    path = tmp_path / "ego4d/frames/tea.arrow"
    rate_file(path).parent.mkdir(parents=True)
    rate_file(path).write_text('{"fps": 1.5}')
    assert find_rate(found, FramesFinder(tmp_path), None, Report()).fps == 1.5


@pytest.mark.parametrize(
    ("uid", "name", "folder"),
    [("caf\u00e9 1", "cafe\u0301 1", "ego4d/frames"), ("tea", "tea", "frames"), ("x_tea", "tea", "ego4d/frames")],
)
def test_the_rate_is_beside_the_frames_that_the_reader_finds(tmp_path, uid, name, folder):
    (found,) = read_dialogs([write(tmp_path / "train.json", [video(video_uid=uid)])], Report())
    write_frames(tmp_path / folder / f"{name}.arrow", [b"x"] * 120)
    rate_file(tmp_path / folder / f"{name}.arrow").write_text('{"fps": 4.0}')
    assert find_rate(found, FramesFinder(tmp_path), None, Report()) == Rate(4.0, 120)


@pytest.mark.parametrize(
    ("rows", "written", "told", "counted"),
    [
        (None, None, None, NO_FRAMES),
        (None, None, 2.0, None),
        (60, 4.0, 2.0, "frames files with another rate beside them than --fps, which was taken"),
        (120, 4.0, 4.0, None),
        (0, None, None, None),
    ],
)
def test_a_doubtful_rate_is_counted(tmp_path, rows, written, told, counted):
    (found,) = read_dialogs([write(tmp_path / "train.json", [video()])], Report())
    path, report = tmp_path / "ego4d/frames/tea.arrow", Report()
    if rows is not None:
        write_frames(path, [b"x"] * rows)
    if written is not None:
        rate_file(path).write_text(f'{{"fps": {written}}}')
    assert find_rate(found, FramesFinder(tmp_path), told, report).fps == (told or written or 2.0)
    assert list(report.counts) == ([] if counted is None else [counted])


@pytest.mark.parametrize("dataset", ["egoexolearn", "assembly101"])
def test_a_duration_of_the_steps_alone_says_nothing(tmp_path, dataset):
    raw = video(annotations={"dataset": dataset, "duration": 50.0})
    (found,) = read_dialogs([write(tmp_path / "train.json", [raw])], Report())
    write_frames(tmp_path / dataset / "frames/tea.arrow", [b"x"] * 200)
    report = Report()
    assert find_rate(found, FramesFinder(tmp_path), None, report) == Rate(2.0, 200) and not report.counts


@pytest.mark.parametrize(
    ("time", "frame"), [(0.0, 0), (0.49, 0), (0.5, 1), (18.6, 37), (4.35 + 0.15, 9), (600.0, 1200)]
)
def test_the_decision_frame_is_the_last_at_or_before_a_time(time, frame):
    assert Rate(2.0, None).frame(time) == frame


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fps": "x"}', '{"fps": 0}', '{"fps": NaN}'])
def test_a_rate_beside_the_frames_that_is_none_is_a_fault(tmp_path, content):
    (found,) = read_dialogs([write(tmp_path / "train.json", [video()])], Report())
    write(tmp_path / "ego4d/frames/tea.json", None).write_text(content)
    with pytest.raises(DataError, match="tea.json"):
        find_rate(found, FramesFinder(tmp_path), None, Report())
