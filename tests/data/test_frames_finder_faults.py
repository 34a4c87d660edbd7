"""Paths that lead out of the data root, or nowhere."""

import os
import shutil

import pytest

from dst_dist.data.frames import write_frames
from tests.data.bad_data import FILE, FRAMES, TEA, check_fault, prospect
from tests.data.handmade import video


def link_out(file):
    def write(root):
        outside = root.parent / "outside"
        outside.mkdir()
        target = outside / os.path.basename(file)
        shutil.move(root / file, target)
        (root / file).symlink_to(target)

    return write


def link_out_folder(root):
    shutil.move(root / "kitchen/frames", root.parent / "outside")
    (root / "kitchen/frames").symlink_to(root.parent / "outside")


def outside_of_the_root(root):
    write_frames(root.parent / "x/v.arrow", video(12))
    prospect(dataset="..", frames_file="x/v.arrow")(root)


PATHS = {
    "frames_file goes up": (
        prospect(frames_file="../tea.arrow"),
        (TEA, "frames_file '../tea.arrow'", "leads out of the data root", "below it"),
    ),
    "frames_file goes up inside": (prospect(frames_file="kitchen/../x.arrow"), (TEA, "leads out", "without ..")),
    "frames_file is absolute": (prospect(frames_file="/etc/passwd"), (TEA, "'/etc/passwd'", "leads out")),
    "frames_file is a link out": (
        link_out(FRAMES),
        (TEA, "frames_file", "is a link that leads out", "put the file below"),
    ),
    "frames folder is a link out": (link_out_folder, (TEA, "frames_file", "is a link that leads out", "outside")),
    "frames_file is no path": (prospect(frames_file="a\0b.arrow"), (TEA, "frames_file", "is not a path")),
    "frames_file is the root": (prospect(frames_file="."), (TEA, "frames_file", "is not a path")),
    "dataset goes up": (outside_of_the_root, (f"{FILE}: clip ../tea/0", "frames_file 'x/v.arrow'", "leads out")),
    "data file is a link out": (link_out(FILE), (f"data.train: kitchen: {FILE}", "is a link that leads out")),
    "no such frames file": (
        prospect(frames_file="kitchen/frames/none.arrow"),
        ("clip kitchen/tea/0", "8 of 8 frames in kitchen/frames/none.arrow", "frame 2: no such file"),
    ),
}


@pytest.mark.parametrize("case", PATHS)
def test_wrong_path(tmp_path, case):
    check_fault(tmp_path / "root", *PATHS[case])
