"""The datasets of a run: every fault at once, the rate of negatives, and what is cut only once."""

import json
import shutil

import pytest

import dst_dist.setup
from dst_dist.errors import ConfigError, DataError
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.data.handmade import make_root, prospect_clip, write_prospect


@pytest.fixture
def words(demo, tmp_path):
    """Words of a recipe: the demo's model, and one hand-made clip of 8 frames in each of two splits."""
    root = make_root(tmp_path / "data")
    write_prospect(root, [prospect_clip()], split="val")
    words = ["data.train=[kitchen]", "data.val=[kitchen]", "data.test=[]"]
    return ["demo", f"model.name_or_path={demo}/model", f"data.root={root}", *words]


def spoil(monkeypatch, *names):
    """Let functions of the setup fail when they are called."""
    for name in names:
        monkeypatch.setattr(dst_dist.setup, name, lambda *_, name=name: pytest.fail(f"{name} was called"))


def test_each_split_of_the_recipe_becomes_a_dataset(words):
    setup = DataSetup(load_recipe(words), splits=("train", "val", "test"))
    datasets = setup.datasets(setup.check())
    # The recipe names no dataset to test on.
    assert datasets.keys() == {"train", "val"}
    assert len(datasets["train"]) == 1 and int(datasets["train"].samples["frames"].sum()) == 8


def test_only_the_process_that_checks_cuts(words, monkeypatch):
    setup = DataSetup(load_recipe(words))
    checks = setup.check()
    spoil(monkeypatch, "cut_split")
    assert setup.datasets(checks)["train"].samples is setup.datasets(checks)["train"].samples


def test_faults_of_model_data_and_frames_are_one_list(words, tmp_path):
    (tmp_path / "data/kitchen/val_training.json").write_text("[")
    (tmp_path / "data/kitchen/frames/tea.arrow").unlink()
    with pytest.raises(DataError) as error:
        DataSetup(load_recipe([*words, "model.tokens_per_frame=25"])).check()
    for part in ("model.tokens_per_frame: 25 is not possible", "val_training.json", "tea.arrow"):
        assert any(part in fault for fault in error.value.faults), part


def test_faults_of_clips_frames_and_lengths_of_a_split_are_one_list(words, tmp_path):
    """A clip with a fault does not hide what is wrong with the frames and the length of others."""
    clips = [
        prospect_clip(clip_idx=0, fps=0),
        prospect_clip(clip_idx=1, end_frame_idx=40),
        prospect_clip(clip_idx=2, conversation=[{"role": "system", "content": "watch " * 5000}]),
    ]
    write_prospect(tmp_path / "data", clips)
    with pytest.raises(DataError) as error:
        DataSetup(load_recipe(words)).check()
    for part in ("fps", "frames in kitchen/frames/tea.arrow are missing", "the opening turn"):
        assert any(part in fault for fault in error.value.faults), (part, error.value)


def test_a_split_without_one_clip_that_can_be_read_has_its_own_faults_alone(words, tmp_path):
    write_prospect(tmp_path / "data", [prospect_clip(fps=0)])
    with pytest.raises(DataError) as error:
        DataSetup(load_recipe(words)).check()
    assert len(error.value.faults) == 1 and "fps" in str(error.value)


def remove_root(root):
    shutil.rmtree(root)


def share_a_bad_file(root):
    (root / "kitchen/train_training.json").write_text(json.dumps([prospect_clip(fps=0)]))


def share_a_link_out(root):
    for split in ("train", "val"):
        clips = [prospect_clip(clip_idx=number, frames_file="/etc/tea.arrow") for number in range(3)]
        write_prospect(root, clips, split=split)


@pytest.mark.parametrize(
    "spoil, more, number",
    [
        (remove_root, [], 1),
        (share_a_bad_file, ["data.val=[kitchen/train_training.json]"], 1),
        (lambda root: (root / "kitchen/frames/tea.arrow").unlink(), ["data.val=[kitchen/train_training.json]"], 1),
        (lambda root: None, ["model.tokens_per_frame=25"], 1),
        (share_a_link_out, [], 2),
    ],
    ids=["no root", "a file in two splits", "frames of two splits", "a model", "one frames file of three clips"],
)
def test_one_fault_is_said_once(words, tmp_path, spoil, more, number):
    spoil(tmp_path / "data")
    with pytest.raises(DataError) as error:
        DataSetup(load_recipe([*words, *more])).check()
    assert len(error.value.faults) == len(set(error.value.faults)) == number, error.value


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_rate_of_negatives_is_for_training_alone(words, rate):
    setup = DataSetup(load_recipe(words), training_rate=rate)
    datasets = setup.datasets(setup.check())
    assert (datasets["train"].negatives.rate, datasets["val"].negatives.rate) == (rate, 1.0)


def test_a_sample_longer_than_the_model_reads_is_an_error(words):
    setup = DataSetup(load_recipe(words))
    most = setup.model_files.max_positions
    setup.check_context(most, "a stream fills contexts of")
    with pytest.raises(
        ConfigError, match=f"contexts of {most + 1} tokens, the model has {most} positions; set data.max"
    ):
        setup.check_context(most + 1, "a stream fills contexts of")


def test_a_video_in_two_splits_is_noted(words):
    setup = DataSetup(load_recipe(words))
    notes = setup.datasets(setup.check())["train"].notes
    assert [note for note in notes if "videos in two splits" in note and "in train and val" in note]
