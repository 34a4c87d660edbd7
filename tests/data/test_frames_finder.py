"""Frames files are found where `frames_file` is wrong, and corrections are counted."""

import os

import pytest

from dst_dist.data import frames_finder
from dst_dist.data.frames import write_frames
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.errors import DataError
from tests.data.clip_files import read, read_one
from tests.data.handmade import make_root, prospect_clip, video, write_prospect


def test_clips_of_one_file_are_one_video_however_they_write_it(tmp_path):
    root = make_root(tmp_path)
    os.symlink(root / "kitchen/frames/tea.arrow", root / "kitchen/frames/link.arrow")
    files = [
        "kitchen/frames/tea.arrow",
        "./kitchen//frames/tea.arrow",
        "data/kitchen/frames/tea.arrow",
        "kitchen/frames/link.arrow",
        "elsewhere/x_tea.arrow",
    ]
    write_prospect(root, [prospect_clip(clip_idx=n, frames_file=file) for n, file in enumerate(files)])
    index, _, report = read(root, "kitchen")
    assert {clip.video for clip in index} == {"kitchen/frames/tea.arrow"}
    assert sum(report.counts.values()) == 2


def test_a_missing_frames_file_is_counted_and_the_clip_kept(tmp_path):
    clip, report = read_one(make_root(tmp_path), prospect_clip(frames_file="kitchen/frames/none.arrow"))
    assert clip.video == "kitchen/frames/none.arrow"
    assert report.counts[frames_finder.NOT_FOUND] == 1


def test_finder_takes_the_nearest_of_several(tmp_path):
    for place in ("a/frames/x.arrow", "b/x.arrow", "b/deep/er/y.arrow", "b/z.arrow", "b/deep/z.arrow"):
        write_frames(tmp_path / place, video(1))
    finder = FramesFinder(tmp_path)

    def found(file, dataset):
        path, correction = finder.find(file, dataset)
        return path.relative_to(tmp_path).as_posix(), correction

    assert found("a/frames/x.arrow", "b") == ("a/frames/x.arrow", None)
    assert found("data/a/frames/x.arrow", "b") == ("a/frames/x.arrow", frames_finder.WITHOUT_DATA)
    assert found("frames/x.arrow", "a") == ("a/frames/x.arrow", frames_finder.BELOW_DATASET)
    assert found("q/x.arrow", "b") == ("b/x.arrow", frames_finder.BY_NAME)
    assert found("q/y.arrow", "nowhere") == ("b/deep/er/y.arrow", frames_finder.BY_NAME)
    assert found("q/pre_x.arrow", "a") == ("a/frames/x.arrow", frames_finder.WITHOUT_PREFIX)
    assert found("q/none.arrow", "a") == ("q/none.arrow", frames_finder.NOT_FOUND)
    with pytest.raises(DataError, match="several files have this name: .*x.arrow.*; write which one"):
        finder.find("q/x.arrow", "c")
    with pytest.raises(DataError, match="several"):
        finder.find("q/z.arrow", "b")
