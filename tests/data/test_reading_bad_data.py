"""Bad input of every kind ends in one DataError that says which file, clip and turn, what is wrong, and what to do."""

import pytest

from dst_dist.data.reading import read_clips
from tests.data.bad_data import change, fault_of
from tests.data.handmade import make_root


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ("data.train names nothing", "name a dataset")),
        (["garage"], ("garage: no such file", "garage/train_training.json", "its folder has no .json")),
        (["cooking"], ("data.train: cooking: no such file", "its folder has no .json or .jsonl")),
        (["kitchen/other.json"], ("no such file", "its folder has train_training.json")),
        (["kitchen", "kitchen"], ("data.train: kitchen: named twice", "for a weight")),
        ([{"kitchen": 0}], ("data.train: kitchen: weight 0", "1 or more")),
        ([{"kitchen": -2}], ("weight -2", "1 or more")),
        ([{"kitchen": 1.5}], ("weight 1.5", "whole number")),
        ([{"kitchen": True}], ("weight True", "whole number")),
        (["../kitchen"], ("data.train: ../kitchen", "leads out of the data root")),
        (["/etc/hosts.json"], ("/etc/hosts.json leads out of the data root",)),
        ([".json"], ("no such file",)),
        ([{"kitchen": 0}, "garage"], ("2 faults", "weight 0", "garage")),
    ],
)
def test_bad_names(tmp_path, names, words):
    error = fault_of(make_root(tmp_path), names)
    for word in words:
        assert word in str(error)


def test_no_root(tmp_path):
    assert f"data.root {tmp_path / 'none'}: no such folder" in str(fault_of(tmp_path / "none"))


def test_illegal_transitions_are_faults_in_strict_alone(tmp_path):
    root = make_root(tmp_path)
    change([{"id": "S1", "transition": "complete"}])(root)
    index, _, report = read_clips(root, ["kitchen"], "train", strict=False)
    assert len(index) == 1 and sum(report.counts.values()) == 1
