"""Paths below the data root: names in either Unicode form, and links of the hub's cache."""

import unicodedata
from pathlib import PurePosixPath

import pytest

from dst_dist.data.below_root import as_spelled, one_form
from dst_dist.data.frames import write_frames
from dst_dist.data.frames_finder import OTHER_SPELLING, FramesFinder
from dst_dist.data.reading import read_clips
from dst_dist.errors import DataError
from tests.data.clip_files import read
from tests.data.handmade import make_root, prospect_clip, video, write_prospect

FORMS = ("NFC", "NFD")
NAME = "caf\u00e9 \u304c"


def in_form(form, text=NAME):
    return unicodedata.normalize(form, text)


@pytest.mark.parametrize("disk", FORMS)
@pytest.mark.parametrize("written", FORMS)
@pytest.mark.parametrize(
    "place, names",
    [
        ("kitchen/frames/{}.arrow", "kitchen/frames/{}.arrow"),
        ("kitchen/{}/tea.arrow", "kitchen/{}/tea.arrow"),
        ("{0}/{0}.arrow", "{0}/{0}.arrow"),
        ("kitchen/frames/{}.arrow", "data/kitchen/frames/{}.arrow"),
        ("kitchen/frames/{}.arrow", "frames/{}.arrow"),
        ("kitchen/frames/{}.arrow", "elsewhere/{}.arrow"),
        ("kitchen/frames/{}.arrow", "elsewhere/toy_{}.arrow"),
    ],
)
def test_a_frames_file_is_found_in_either_spelling(tmp_path, disk, written, place, names):
    path = tmp_path / place.format(in_form(disk))
    write_frames(path, video(1))
    found, correction = FramesFinder(tmp_path).find(names.format(in_form(written)), "kitchen")
    assert found == path
    if place == names:
        assert correction == (None if disk == written else OTHER_SPELLING)


def test_a_name_as_written_comes_before_one_in_another_spelling(tmp_path):
    for form in FORMS:
        write_frames(tmp_path / f"{in_form(form)}.arrow", video(1))
    for form in FORMS:
        name = f"{in_form(form)}.arrow"
        assert FramesFinder(tmp_path).find(name, "x") == (tmp_path / name, None)
        assert as_spelled(tmp_path, PurePosixPath(name)) == tmp_path / name
    assert one_form(in_form("NFD")) == in_form("NFC") != in_form("NFD")


@pytest.mark.parametrize("disk", FORMS)
@pytest.mark.parametrize("written", FORMS)
@pytest.mark.parametrize("name", ["{}", "{}/train_training.json"])
def test_a_dataset_is_found_in_either_spelling(tmp_path, disk, written, name):
    root, dataset = make_root(tmp_path), in_form(disk)
    write_prospect(root, [prospect_clip()], dataset)
    index, _, report = read(root, name.format(in_form(written)))
    assert len(index) == 1
    assert sum("spells" in kind for kind in report.counts) == (disk != written)
    with pytest.raises(DataError, match="named twice"):
        read(root, name.format(in_form("NFC")), name.format(in_form("NFD")))


def snapshot(tmp_path, kind, inside=""):
    """A data root in the hub's cache, whose files are links to blobs."""
    cache, made = tmp_path / f"hub/{kind}--some--name", make_root(tmp_path / "made")
    root = cache / "snapshots/0123" / inside
    for number, path in enumerate(sorted(path for path in made.rglob("*") if path.is_file())):
        blob, link = cache / f"blobs/{number}", root / path.relative_to(made)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        link.symlink_to(blob)
    return root


@pytest.mark.parametrize(
    "kind, inside, command",
    [
        ("datasets", "", "hf download some/name --repo-type dataset --local-dir DIR"),
        ("datasets", "data/all", "hf download some/name --repo-type dataset --local-dir DIR"),
        ("models", "", "hf download some/name --local-dir DIR"),
        ("spaces", "", "hf download some/name --repo-type space --local-dir DIR"),
        ("else", "", "put the file below the root"),
    ],
)
def test_a_snapshot_of_the_hub_says_how_to_download_it(tmp_path, kind, inside, command):
    root = snapshot(tmp_path, kind, inside)
    with pytest.raises(DataError) as caught:
        read_clips(root, ["kitchen"], "train", False)
    assert command in str(caught.value) and "leads out of the data root" in str(caught.value)
    # Only the frames files are links.
    (root / "kitchen/train_training.json").unlink()
    write_prospect(root, [prospect_clip(clip_idx=number) for number in range(3)])
    with pytest.raises(DataError) as caught:
        read_clips(root, ["kitchen"], "train", False)
    assert command in str(caught.value)
