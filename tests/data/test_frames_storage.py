"""Another storage of frames is one class and its entry in STORAGES: here an archive of JPEG files, and a video file."""

import io
import tarfile

import pytest

from dst_dist.data import frames
from dst_dist.data.images import decode_jpeg
from dst_dist.data.video_files import read_container
from dst_dist.errors import DataError
from dst_dist.streaming.video_input import read_video
from tests.data.datasets import frame_values, make_dataset, spec_of
from tests.data.handmade import grey, make_root, prospect_clip, video, write_prospect
from tests.data.videos import write_video

NUM_FRAMES = 12


class TarFrames:
    """The JPEG files of an archive, in the order of their names."""

    held_bytes = 0

    def __init__(self, path, is_skimmed=False):
        try:
            self._archive = tarfile.open(path)  # noqa: SIM115, open as long as its reader
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"{path}: cannot be read as tar: {error}") from error
        self._names = sorted(self._archive.getnames())

    def __len__(self):
        return len(self._names)

    def image(self, row):
        if not 0 <= row < len(self):
            raise ValueError(f"{len(self)} frames")
        return decode_jpeg(self._archive.extractfile(self._names[row]).read())

    check_row = check_header = image


class VideoFrames:
    """The frames of a video file, all decoded when it is opened."""

    def __init__(self, path, is_skimmed=False):
        self._images = list(read_container(path, 2.0))
        self.held_bytes = sum(image.nbytes for image in self._images)

    def __len__(self):
        return len(self._images)

    def image(self, row):
        if not 0 <= row < len(self):
            raise ValueError(f"{len(self)} frames")
        return self._images[row]

    check_row = check_header = image


def write_tar(path):
    with tarfile.open(path, "w") as archive:
        for row, jpeg in enumerate(video(NUM_FRAMES)):
            about = tarfile.TarInfo(f"{row:05d}.jpg")
            about.size = len(jpeg)
            archive.addfile(about, io.BytesIO(jpeg))


def write_mkv(path):
    shades, times_ms = map(grey, range(NUM_FRAMES)), range(0, 500 * NUM_FRAMES, 500)
    write_video(path, list(shades), times_ms, codec="ffv1", pix_fmt="bgr0")


@pytest.fixture(params=[(".tar", TarFrames, write_tar), (".mkv", VideoFrames, write_mkv)], ids=["tar", "video"])
def file(request, tmp_path, monkeypatch):
    """A frames file of another kind in a data root, and a clip that finds it by its name alone."""
    suffix, storage, write = request.param
    monkeypatch.setitem(frames.STORAGES, suffix, storage)
    file = make_root(tmp_path) / f"kitchen/frames/jam{suffix}"
    write(file)
    write_prospect(tmp_path, [prospect_clip(frames_file=f"elsewhere/{file.name}")])
    return file


def test_a_clip_is_trained_from_it(file, tmp_path):
    data = make_dataset(tmp_path, ["kitchen"])
    assert data.clips.index[0].video == f"kitchen/frames/{file.name}"
    assert frame_values(data[spec_of(data, 0)]) == [grey(row) for row in range(2, 10)]


@pytest.mark.parametrize("level", ["rows", "headers", "decode"])
def test_frames_that_it_lacks_are_missing(file, tmp_path, level):
    write_prospect(tmp_path, [prospect_clip(frames_file=f"kitchen/frames/{file.name}", end_frame_idx=16)])
    with pytest.raises(DataError, match=f"4 of 14 frames in kitchen/frames/{file.name} are missing"):
        make_dataset(tmp_path, ["kitchen"], check=level)


def test_it_is_streamed_as_a_video(file):
    assert [int(frame.max()) for frame in read_video(file, 2.0, 14)] == [grey(row) for row in range(NUM_FRAMES)]
