"""Small pictures within the size of the page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dst_dist.data.frames import write_frames
from dst_dist.report import page
from dst_dist.report.page import write_report
from dst_dist.report.thumbnails import add_thumbnails
from tests.data.handmade import video
from tests.report.make_run import clip, data_of, trained, write_clips


def test_thumbnails_keep_the_page_within_its_size(tmp_path, monkeypatch):
    frames = tmp_path / "frames.arrow"
    write_frames(frames, video(120))
    run = trained(tmp_path / "run")
    write_clips(run, [clip(f"tea{number}", frames_path=str(frames)) for number in range(20)])
    whole = write_report(run)
    assert all(len(one["thumbnails"]) == 20 for one in data_of(whole)["clips"])
    most = whole.stat().st_size - 100_000
    monkeypatch.setattr(page, "MOST_BYTES", most)
    small = write_report(run)
    assert small.stat().st_size <= most and 0 < sum(len(one["thumbnails"]) for one in data_of(small)["clips"]) < 400
    assert any("to keep this file small" in note or "evenly spaced" in note for note in data_of(small)["clip_notes"])


def test_thumbnails_are_evenly_spaced_small_jpegs(tmp_path):
    frames = tmp_path / "frames.arrow"
    write_frames(frames, video(120))
    one = {"start": 20, "end": 120, "frames_path": str(frames)}
    without_file = {"start": 0, "end": 5, "frames_path": str(tmp_path / "none.arrow")}
    notes = add_thumbnails([one, without_file], room=1_000_000)
    taken = [frame for frame, _ in one["thumbnails"]]
    assert len(taken) == 32 and (taken[0], taken[-1]) == (20, 119) and set(np.diff(taken)) == {3, 4}
    picture = Image.open(io.BytesIO(base64.b64decode(one["thumbnails"][0][1])))
    assert picture.format == "JPEG" and picture.width <= 112 and picture.height <= 56
    assert one["aspect"] == pytest.approx(picture.width / picture.height, abs=0.001) and "frames_path" not in one
    assert without_file["thumbnails"] == []
    assert notes == [
        "1 of 2 clips have no pictures: their frames files could not be opened here.",
        "1 of 2 clips show 32 of their frames, evenly spaced.",
    ]


def test_frames_that_cannot_be_read_are_counted(tmp_path):
    frames = tmp_path / "frames.arrow"
    write_frames(frames, [*video(3), b"no JPEG"])
    one = {"start": 0, "end": 4, "frames_path": str(frames)}
    assert add_thumbnails([one], room=1_000_000) == ["1 frames could not be read."]
    assert [frame for frame, _ in one["thumbnails"]] == [0, 1, 2]
