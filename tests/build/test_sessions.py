"""One recording in one split."""

import pytest

from dst_dist.build.dialogs import read_dialogs
from dst_dist.build.sessions import with_whole_sessions
from dst_dist.data.reading_log import Report
from tests.build.raw import video, write

TOY = "nusar-2021_action_both_9011-c03f_9011_user_id_2021-02-01_160239"


def splits(folder, dataset: str, places: list[tuple[str, str]]) -> tuple[list[str], Report]:
    """The splits of videos that stand in files of the given splits."""
    report = Report()
    paths = [
        write(folder / f"{split}_{number}.json", [video(video_uid=uid, annotations={"dataset": dataset})])
        for number, (split, uid) in enumerate(places)
    ]
    return [found.split for found in with_whole_sessions(read_dialogs(paths, report), report)], report


@pytest.mark.parametrize(
    ("dataset", "places", "kept"),
    [
        (
            "assembly101",
            [("val", f"assembly_{TOY}__HMC_84355350_mono10bit"), ("train", f"assembly_{TOY}__HMC_21176875_mono10bit")],
            ["train", "train"],
        ),
        (
            "assembly101",
            [("test", f"assembly_{TOY}__HMC_1_mono10bit"), ("val", f"disassembly_{TOY}__HMC_1_mono10bit")],
            ["val", "val"],
        ),
        ("ego4d", [("test", "grp-0a1b"), ("train", "0a1b")], ["train", "train"]),
        ("ego4d", [("test", "0a1b"), ("train", "0a1c")], ["test", "train"]),
        ("holoassist", [("val", "assembly_a"), ("test", "disassembly_a")], ["val", "test"]),
    ],
)
def test_videos_of_one_recording_are_in_one_split(tmp_path, dataset, places, kept):
    found, report = splits(tmp_path, dataset, places)
    assert found == kept
    moved = sum(split != written for split, (written, _) in zip(kept, places, strict=True))
    assert sum(report.counts.values()) == moved
