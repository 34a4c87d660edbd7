"""Clips that several processes read are those that one reads, with the same counts, examples and faults."""

import pytest

from dst_dist.data import reading
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.errors import DataError
from tests.data.handmade import make_root, proassist_clip, prospect_clip, write_proassist, write_prospect
from tests.data.test_reading_many_faults import mutations

NAMES = [{"kitchen": 3}, "toys", "cooking/prepared/train.jsonl"]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(reading, "CLIPS_PER_BLOCK", 3)


def read(root, num_workers):
    """Return all that reading gives: the clips' arrays, or the faults."""
    finder = FramesFinder(root)
    try:
        index, weights, report = reading.read_clips(root, NAMES, "train", False, finder, num_workers)
    except DataError as error:
        return list(error.faults)
    arrays = {name: values.tolist() for name, values in index.arrays.items()}
    return arrays, index.fingerprint(), weights, report.lines(), finder.answers


def is_sound(root, clip):
    write_prospect(root, [clip])
    try:
        reading.read_clips(root, ["kitchen"], "train", False)
    except DataError:
        return False
    return True


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Clips with contradictions of many kinds, that share labels, in three files."""
    root = make_root(tmp_path_factory.mktemp("shares"))
    sound = [clip for clip in mutations(1, prospect_clip()) if is_sound(root, clip)]
    assert len(sound) > 50
    write_prospect(root, sound[:30])
    write_prospect(root, sound[30:44], dataset="toys")
    write_proassist(root, [proassist_clip()] * 7)
    return root


@pytest.mark.parametrize("num_workers", [2, 3, 40])
def test_the_clips_are_the_same(root, num_workers):
    alone = read(root, 0)
    arrays, _, weights, lines, answers = alone
    assert len(arrays["paths"]) == 51 and weights == [3] * 30 + [1] * 21 and len(answers) >= 2
    assert any(line.startswith("4") for line in lines) and any("numbered #2 and on" in line for line in lines)
    assert read(root, num_workers) == alone


def faulty(first, second):
    """Spoil two clips of the first file; return the whole file."""
    clips = [prospect_clip(clip_idx=number) for number in range(20)]
    clips[first] |= {"fps": 0}
    clips[second] |= {"end_frame_idx": 0}
    return clips


FAULTS = {
    "in two shares": faulty(1, 4),
    "out of order": faulty(17, 2),
    "of many clips": [prospect_clip(clip_idx=number, fps=0) for number in range(50)],
    "shared": [prospect_clip(clip_idx=number, frames_file="../out.arrow") for number in range(20)],
    "an id twice, far apart": [prospect_clip(id=f"clip {number % 17}") for number in range(20)],
    "of neither format": [prospect_clip(), *range(9)],
    "no clip": [],
}


@pytest.mark.parametrize("clips", FAULTS.values(), ids=FAULTS)
def test_faults_are_the_same(tmp_path, clips):
    root = make_root(tmp_path)
    write_prospect(root, clips)
    (root / "toys/train_training.json").write_text('[{"dst": []}, {"cut": ')
    alone = read(root, 0)
    assert isinstance(alone, list) and len(alone) >= 2
    assert read(root, 3) == alone
