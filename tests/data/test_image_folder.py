"""The images of a folder: their order, and what is passed over."""

import pytest

from dst_dist.data.image_folder import list_images
from dst_dist.errors import DataError


def test_images_come_in_the_order_people_mean(tmp_path):
    names = ["frame2.PNG", "frame9.jpeg", "frame10.jpg", "frame011.png"]
    for name in reversed(names):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == names


def test_a_folder_without_images_raises(tmp_path):
    (tmp_path / "._1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no image; there should be files ending in .jpg, .jpeg, .png"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    "names, said",
    [
        (["._1.jpg"], "1 other files passed over, for example ._1.jpg"),
        (["._1.jpg", "._2.JPG", ".DS_Store"], "3 other files passed over, for example .DS_Store"),
        (["Thumbs.db", "3.webp"], "2 other files passed over, for example 3.webp"),
        ([], None),
    ],
)
def test_what_other_systems_leave_beside_images_is_passed_over_and_counted(tmp_path, caplog, names, said):
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    for name in names:
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    with caplog.at_level("INFO", "dst_dist"):
        assert [path.name for path in list_images(tmp_path)] == ["1.jpg", "2.jpg"]
    assert (said in caplog.text) if said else not caplog.text
