"""Missing frames, and frames found corrupt during a run, under each `data.on_missing`."""

import numpy as np
import pytest
import torch

from dst_dist.data.conversation import IGNORE
from dst_dist.data.cutting import CUT_FIELDS
from dst_dist.data.frames import GREY, write_frames
from dst_dist.errors import DataError
from tests.data.datasets import check_counts, frame_values, labels_by_frame, make_dataset, spec_of
from tests.data.handmade import grey, make_root, prospect_clip, undecodable, video, write_prospect


@pytest.fixture
def gap_root(root):
    """The kitchen's frame 4, where both heads are positive, is no JPEG; the toys' frames are whole."""
    frames = video(12)
    frames[4] = b"no image"
    write_frames(root / "kitchen/frames/tea.arrow", frames)
    return root


def test_a_missing_frame_stops_a_run_before_it_starts(gap_root):
    with pytest.raises(DataError) as caught:
        make_dataset(gap_root)
    (fault,) = caught.value.faults
    assert "clip kitchen/tea/0: 1 of 8 frames" in fault and "data.on_missing" in fault


def test_all_clips_with_missing_frames_are_named_at_once(gap_root):
    (gap_root / "toys/frames/toy-01_cam_2.arrow").unlink()
    with pytest.raises(DataError) as caught:
        make_dataset(gap_root)
    assert len(caught.value.faults) == 2
    assert "kitchen/tea/0" in caught.value.faults[0] and "toys/" in caught.value.faults[1]


def test_filter_leaves_out_clips_and_says_how_many_of_how_many(gap_root):
    dataset = make_dataset(gap_root, ["kitchen", {"toys": 3}], on_missing="filter")
    assert [dataset.clips.index[int(clip)].dataset for clip in dataset.samples["clip"]] == ["toys"]
    assert dataset.weights.tolist() == [3]
    assert "kitchen: 1 of 1 clips left out, frames are missing" in dataset.notes
    with pytest.raises(DataError, match="leaves no clip"):
        make_dataset(gap_root, ["kitchen"], on_missing="filter")


def test_a_placeholder_is_grey_without_labels_and_counted(gap_root):
    dataset = make_dataset(gap_root, ["kitchen"], on_missing="placeholder")
    assert dataset.clips.missing == {0: (4,)}
    assert any("1 frames of 1 clips are missing" in note for note in dataset.notes)
    batch = dataset[spec_of(dataset, 0)]
    assert frame_values(batch) == [GREY if frame == 4 else grey(frame) for frame in range(2, 10)]
    assert batch.num_placeholders == 1 and batch.fault is None
    for head in ("dst_update", "speaking"):
        labels = labels_by_frame(batch, head)
        assert labels.pop(4) == IGNORE
        assert labels[7] == 1
    check_counts(dataset, [batch])
    # The turns of the frame are learned as ever, and lengths do not change: the plan is the same.
    whole = make_dataset(make_root(gap_root.parent / "whole"), ["kitchen"])
    assert torch.equal(batch.lm_targets, whole[spec_of(whole, 0)].lm_targets)
    assert all(np.array_equal(dataset.samples[name], whole.samples[name]) for name in CUT_FIELDS)


def test_a_video_without_a_single_frame_is_in_the_notes(root):
    (root / "toys/frames/toy-01_cam_2.arrow").unlink()
    dataset = make_dataset(root, ["toys"], on_missing="placeholder")
    assert any("8 frames of 1 clips are missing (1 clips have no other)" in note for note in dataset.notes)
    batch = dataset[spec_of(dataset, 0)]
    assert frame_values(batch) == [GREY] * 8 and batch.num_placeholders == 8


def test_a_clip_without_a_single_frame_leaves_the_others_of_its_file_theirs(root):
    kitchen = prospect_clip()
    beyond = {"start_frame_idx": 100, "end_frame_idx": 108, "conversation": kitchen["conversation"][:1]}
    write_prospect(root, [kitchen, {**kitchen, **beyond, "clip_idx": 1}])
    dataset = make_dataset(root, ["kitchen"], on_missing="placeholder")
    assert GREY not in frame_values(dataset[spec_of(dataset, 0)])
    assert frame_values(dataset[spec_of(dataset, 1)]) == [GREY] * 8


@pytest.fixture
def corrupt_root(root):
    """The JPEG of the kitchen's frame 4 looks good at the start, and decoding it is not possible."""
    frames = video(12)
    frames[4] = undecodable(frames[4])
    write_frames(root / "kitchen/frames/tea.arrow", frames)
    return root


def test_a_frame_found_corrupt_while_reading_stops_the_run(corrupt_root):
    dataset = make_dataset(corrupt_root)
    batch = dataset[spec_of(dataset, 0, 1)]
    with pytest.raises(DataError) as caught:
        batch.check()
    for part in ("1 frames of kitchen/tea/0 in kitchen/frames/tea.arrow", "first is 4", "data.on_missing"):
        assert part in str(caught.value)
    dataset[spec_of(dataset, 1)].check()


@pytest.mark.parametrize("on_missing", ["placeholder", "filter"])
def test_a_frame_found_corrupt_while_reading_becomes_a_placeholder(corrupt_root, on_missing):
    dataset = make_dataset(corrupt_root, on_missing=on_missing)
    assert len(dataset) == 3
    batch = dataset[spec_of(dataset, 0, 1)]
    batch.check()
    assert batch.num_placeholders == 1
    assert frame_values(batch)[2] == GREY
    kitchen = torch.cumsum(batch.decision_is_frame, 0) <= 8
    blind = kitchen & batch.decision_is_frame & (batch.decision_frames == 4)
    assert batch.decisions["dst_update"][blind].tolist() == batch.decisions["speaking"][blind].tolist() == [IGNORE]
    # Frame 4 of the toys is another video's, and stays.
    assert (batch.decisions["speaking"][~kitchen & (batch.decision_frames == 4)] != IGNORE).all()


@pytest.mark.parametrize("on_missing", ["error", "placeholder", "filter"])
@pytest.mark.parametrize("lost", ["gone", "cut off"])
def test_a_file_that_is_lost_during_a_run_is_a_fault_in_one_sentence(root, on_missing, lost):
    """A disk that is lost must not turn a training's frames grey without a word."""
    dataset = make_dataset(root, on_missing=on_missing)
    path = root / "kitchen/frames/tea.arrow"
    path.unlink()
    if lost == "cut off":
        path.write_bytes(b"ARROW1")
    fault = dataset[spec_of(dataset, 0, 1)].fault
    assert fault.startswith(f"kitchen/tea/0: {path}: cannot be read") and "\n" not in fault
