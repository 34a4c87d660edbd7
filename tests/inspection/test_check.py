"""What `dst-dist check` finds and says."""

import json
from pathlib import Path

import pytest

from dst_dist import cli
from dst_dist.errors import DataError
from dst_dist.inspection import check
from dst_dist.inspection.check import check_data, lines_of
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.starting import noting_reads, settle


@pytest.fixture(scope="module")
def found(words):
    root = next(word for word in words[::-1] if word.startswith("data.root=")).removeprefix("data.root=")
    settle(Path(root))
    return check_data(words)


def test_numbers_are_those_of_the_samples(found, words):
    setup = DataSetup(load_recipe(words), ("train", "val", "test"))
    datasets = setup.datasets(setup.check())
    assert found.keys() == {"train", "val", "test"}
    for split, data in datasets.items():
        about = found[split]
        assert (about["clips"], about["samples"]) == (len(data.clips.index), len(data))
        assert about["tokens"] == data.samples["tokens"].sum()
        for key in ("clips", "samples", "tokens", "frames"):
            assert sum(one[key] for one in about["datasets"].values()) == about[key]
        for name, histogram in about["lengths"].items():
            assert sum(histogram["samples"]) == len(data) and len(histogram["edges"]) == 10
            assert histogram["edges"][-1] == data.samples[name].max()
        assert about["heads"]["speaking"]["positives"] == data.samples["speaking_positives"].sum()
    assert set(found["train"]["datasets"]) == {"workshop", "kitchen", "garden"}


def test_people_read_the_same_numbers(found):
    text = "\n".join(lines_of(found))
    train = found["train"]
    assert f"train: {train['clips']} clips of {train['videos']} videos, {train['samples']} samples" in text
    assert "% positive" in text and "tokens of a sample, up to:" in text and text.endswith("no fault was found")
    assert max(len(line) for line in text.splitlines()) < 160


def test_the_start_of_training_finds_what_was_looked_at(found, words):
    with noting_reads() as read:
        setup = DataSetup(load_recipe(words))
        setup.datasets(setup.check())
    assert read == []


def test_every_fault_is_listed_and_the_code_is_2(words, tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        clip = {"dataset": name, "conversation": 3, "frames_file": f"{name}/frames/x.arrow"}
        (tmp_path / name / "train_training.json").write_text(json.dumps([clip]))
    bad = [*words, f"data.root={tmp_path}", "data.train=[one, two]", "data.val=[]", "data.test=[]"]
    with pytest.raises(DataError) as error:
        check_data(bad)
    assert "one/train_training.json" in str(error.value) and "two/train_training.json" in str(error.value)
    assert cli.main(["check", *bad]) == 2
    assert capsys.readouterr().err.startswith("DataError: ")


@pytest.mark.parametrize("own, num_workers", [([], "auto"), (["data.num_workers=0"], 0)])
def test_all_cores_are_used_unless_a_word_says_otherwise(own, num_workers, monkeypatch):
    """The demo's recipe, which leaves its short training to one process, is no such word."""
    asked = []

    def note(recipe, splits):
        asked.append(recipe.data.num_workers)
        raise DataError("enough")

    monkeypatch.setattr(check, "DataSetup", note)
    with pytest.raises(DataError, match="enough"):
        check_data(["demo", *own])
    assert asked == [num_workers]
