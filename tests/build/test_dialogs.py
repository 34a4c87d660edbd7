"""Raw dialogs: where they belong, and all faults at once."""

from pathlib import Path

import pytest

from dst_dist.build.dialogs import NO_SPLIT, read_dialogs
from dst_dist.data.reading_log import Report
from dst_dist.errors import DataError
from tests.build.raw import turn, video, write


def read_one(path, raw):
    return read_dialogs([write(path, raw)], Report())


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.json", "train"),
        ("train_filtered.json", "train"),
        ("val.json", "val"),
        ("test_filtered.json", "test"),
        ("val/tea.json", "val"),
        ("test/R901-Lamp.json", "test"),
        ("1-tea.raw.json", "train"),
        ("testing.json", "train"),
        ("Val.json", "val"),
        ("validation.json", "val"),
        ("valid_2.json", "val"),
        ("val_filtered/tea.json", "val"),
        ("test/train.json", "train"),
        ("dev/tea.json", "train"),
        ("test/sub/tea.json", "train"),
        ("ego4d_val.json", "train"),
        ("values.json", "train"),
    ],
)
def test_the_split_is_in_the_name_of_file_or_folder(tmp_path, name, split):
    """A file that names none is for training, and counted."""
    report = Report()
    path = write(tmp_path / "data" / name, [video()])
    assert [found.split for found in read_dialogs([path], report)] == [split]
    assert sum(report.counts.values()) == (split == "train" and not path.name.startswith("train"))


def test_the_working_folder_is_no_split(tmp_path, monkeypatch):
    write(tmp_path / "test_x/tea.json", [video()])
    monkeypatch.chdir(tmp_path / "test_x")
    report = Report()
    assert [found.split for found in read_dialogs([Path("tea.json")], report)] == ["train"]
    assert list(report.counts) == [NO_SPLIT]


@pytest.mark.parametrize(
    ("name", "annotations", "dataset"),
    [
        ("x/generated_dialogs/train.json", {"dataset": "wtag"}, "wtag"),
        ("x/generated_dialogs/train.json", {"dataset": "ego4d-goalstep"}, "ego4d"),
        ("holoassist/generated_dialogs/val/tea.json", None, "holoassist"),
        ("train.json", None, "dialogs"),
    ],
)
def test_the_dataset_is_that_of_the_annotations_else_of_the_path(tmp_path, name, annotations, dataset):
    raw = video(annotations=annotations) if annotations else video(parsed_video_anns=None)
    assert read_one(tmp_path / name, raw)[0].dataset == dataset


@pytest.mark.parametrize(
    ("dataset", "uid", "name"),
    [
        ("ego4d", "grp-0a1b", "0a1b"),
        ("ego4d", "0a1b", "0a1b"),
        ("assembly101", "assembly_nusar_HMC", "nusar_HMC"),
        ("assembly101", "disassembly_nusar_HMC", "nusar_HMC"),
        ("holoassist", "R901_lamp", "R901_lamp"),
        ("wtag", "T9", "T9"),
    ],
)
def test_the_name_of_the_frames_file(tmp_path, dataset, uid, name):
    raw = video(video_uid=uid, annotations={"dataset": dataset})
    assert read_one(tmp_path / "train.json", raw)[0].frames_name == name


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (video(video_uid=3), "video_uid"),
        (video(video_uid="a/b"), "usable as the name of a file"),
        (video(video_uid=".."), "usable as the name of a file"),
        (video(annotations={"dataset": "a/b"}), "usable as the name of a file"),
        (video(inferred_knowledge=None), "inferred_knowledge"),
        (video(conversations={}), "conversations"),
        (video(turn("system", 1, "x")), "role"),
        (video(turn("user", -1, "x")), "time"),
        (video(turn("user", float("nan"), "x")), "time"),
        (video(turn("user", "4.2", "x")), "time"),
        (video(turn("user", 1, None)), "content"),
        (video(annotations={"fps": 0}), "fps"),
        (video(annotations={"duration": "long"}), "duration"),
        ("text", "must be an object"),
        ([[]], "must be an object"),
    ],
)
def test_a_fault_names_file_video_and_key(tmp_path, raw, fault):
    with pytest.raises(DataError, match=fault) as caught:
        read_one(tmp_path / "train.json", raw)
    assert "train.json" in str(caught.value)


def test_all_faults_of_all_files_come_at_once(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('[{"video_uid": "x"')
    paths = [write(tmp_path / "train.json", [video(video_uid=1), video(inferred_goal=2)]), broken, tmp_path / "no.json"]
    with pytest.raises(DataError) as caught:
        read_dialogs(paths, Report())
    assert len(caught.value.faults) == 4


def test_excluded_videos_and_half_characters_are_counted(tmp_path):
    report = Report()
    raw = [{"reason_to_exclude": "Skip video x"}, video(turn("user", 1, "tea \ud83d please"))]
    (found,) = read_dialogs([write(tmp_path / "train.json", raw)], report)
    assert found.written.conversations[0].conversation[0].content == "tea \ufffd please"
    assert len(report.counts) == 2


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    path = write(tmp_path / "train.json", video())
    assert len(read_dialogs([path, path], Report())) == 1
