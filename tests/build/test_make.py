"""The whole way from raw dialogs to clips that training reads, and the gold of the examples."""

import json

import pytest

from dst_dist.build.dialogs import NO_SPLIT
from dst_dist.build.make import build
from dst_dist.build.rates import NO_FRAMES
from dst_dist.data.frames import write_frames
from dst_dist.errors import ConfigError
from tests.build.raw import EXAMPLES, NAMES, build_videos, read_strictly, turn, video, write
from tests.build.scoring import f1, overlap, read_transitions
from tests.data.handmade import jpeg

LEAST = 0.95


@pytest.mark.parametrize("name", NAMES)
def test_an_examples_gold_is_found_and_read_strictly(name, tmp_path):
    built = build([EXAMPLES / f"{name}.raw.json"], tmp_path)
    gold = json.loads((EXAMPLES / f"{name}.gold.json").read_text())
    true = [(change["time"], change["id"], change["transition"]) for change in gold["transitions"]]
    steps = {step["id"]: step["name"] for step in gold["steps"]}
    (clips,) = built.files.values()
    for clip in clips:
        assert {step["id"]: step["name"] for step in clip["dst"]} == steps
        found = read_transitions([clip])
        assert overlap(true, found, list(steps), true[-1][0]) >= LEAST
        assert f1(true, found) >= LEAST
    assert read_strictly(tmp_path, built) == []
    assert set(built.report.counts) == {NO_SPLIT, NO_FRAMES}


DIRT = {
    "turns at one time": video(
        turn("user", 11.0, "x"), turn("assistant", 11.0, "Stir."), turn("assistant", 11.0, "Go.")
    ),
    "a reply before its user": video(turn("user", 11.0, "Tea?"), turn("assistant", 10.0, "Boil the water.")),
    "opened by the assistant": video(turn("assistant", 1.0, "Boil the water."), turn("user", 9.0, "Now?")),
    "blank turns": video(turn("user", 1.0, " "), turn("assistant", 2.0, "Boil the water.")),
    "times beyond the annotations": video(turn("assistant", 90.0, "Stir.")),
    "annotations that are null": video(parsed_video_anns=None),
    "no descriptions": video(annotations={"all_step_descriptions": ""}),
    "a late start": video(turn("user", 97.2, "x"), annotations={"video_start_time": 95.2, "dataset": "assembly101"}),
    "lines out of order": video(annotations={"all_step_descriptions": "[9.0-12.0] stir\n[1.0-4.0] boil water\n"}),
    "lines of no length": video(annotations={"all_step_descriptions": "[9.0s-9.0s] stir\n[9.0s-9.0s] boil water\n"}),
    "everything at zero": video(
        turn("user", 0.0, "x"), annotations={"all_step_descriptions": "[0.0s-0.0s] stir\n[0.0s] boil water\n"}
    ),
    "votes as labels": video(video_labels={"1": 9, "2": 1}),
    "a blank goal": video(inferred_goal=""),
    "steps of one name": video(inferred_knowledge="Tea\n1. Stir.\n2. Stir.\n9. Stir."),
}


@pytest.mark.parametrize("name", DIRT)
@pytest.mark.parametrize("clip_s", [None, 5.0])
def test_dirt_gives_clips_that_are_read_strictly(tmp_path, name, clip_s):
    built = build_videos(tmp_path, DIRT[name], clip_s=clip_s)
    assert read_strictly(tmp_path / "root", built) == []


EMPTY = {"conversation": [], "user_type": "no_talk"}
SAID = {"conversation": [turn("user", 1.0, "Tea!")], "user_type": "no_talk"}


@pytest.mark.parametrize(
    ("videos", "ids", "counted"),
    [
        ([video(conversations=[EMPTY, SAID])], ["ego4d/tea/1/0"], "dialogs without turns"),
        ([video(conversations=[SAID, SAID])], ["ego4d/tea/0/0"], "dialogs equal to another"),
        ([video(), video(conversations=[SAID])], ["ego4d/tea/0/0", "ego4d/tea/1/0"], "videos that stand several times"),
        ([video(), video()], ["ego4d/tea/0/0"], "dialogs equal to another"),
        ([video(inferred_knowledge="Tea\n1. Boil.\n1. Pour.")], ["ego4d/tea/0/0"], "numbered lines that begin no step"),
        (
            [video(annotations={"all_step_descriptions": "[4 x] boil"})],
            ["ego4d/tea/0/0"],
            "lines whose time in brackets",
        ),
        ([video(turn("user", 9, "x"), turn("user", 8, "y"))], ["ego4d/tea/0/0"], "turns earlier than the one above"),
        ([video(), video(video_uid="x", inferred_knowledge="Tea")], ["ego4d/tea/0/0"], "videos without numbered steps"),
        ([video(turn("user", 1, ""), turn("user", 2, "x"))], ["ego4d/tea/0/0"], "dialogs with blank turns"),
    ],
)
def test_what_is_left_out_is_counted_and_ids_stay(tmp_path, videos, ids, counted):
    built = build_videos(tmp_path, *videos)
    assert [clip["id"] for clips in built.files.values() for clip in clips] == ids
    assert [kind for kind in built.report.counts if kind.startswith(counted)]
    assert read_strictly(tmp_path / "root", built) == []


def test_a_video_that_two_files_tell_otherwise_keeps_both(tmp_path):
    egg = video(
        inferred_knowledge="Egg\n1. Crack the egg.", annotations={"all_step_descriptions": "[3.0s-5.0s] crack egg"}
    )
    built = build_videos(tmp_path, video(), egg)
    first, second = built.files["ego4d/train_training.json"]
    assert [step["name"] for step in second["dst"]] == ["Crack the egg."]
    assert [step["name"] for step in first["dst"]][0] == "Boil the water." and second["id"] == "ego4d/tea/1/0"
    assert built.report.counts["videos that stand several times, with steps or annotations of their own"] == 1


def test_files_of_an_earlier_call_are_named(tmp_path):
    write(tmp_path / "root/ego4d/val_training.json", [])
    built = build_videos(tmp_path, video())
    (example,) = built.report.examples["files of these datasets from an earlier call, which stay as they are"]
    assert example.endswith("ego4d/val_training.json")


def test_turns_beyond_the_frames_file_are_left_out_and_counted(tmp_path):
    write_frames(tmp_path / "root/ego4d/frames/tea.arrow", [jpeg(0)] * 20)
    raw = video(annotations={"duration": 10.0})
    built = build_videos(tmp_path, raw)
    (clip,) = built.files["ego4d/train_training.json"]
    assert clip["end_frame_idx"] <= 20
    # stir starts and ends at 15 and 20 s, milk at 10 and 14.
    kind = "turns beyond the end of the frames file, left out"
    assert built.report.counts[kind] == 4 and built.report.examples[kind] == ["4 of ego4d/tea/0"]
    assert read_strictly(tmp_path / "root", built) == []


def test_nothing_left_is_the_users_fault_and_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="without numbered steps"):
        build_videos(tmp_path, video(inferred_knowledge="Tea"))
    assert not (tmp_path / "root").exists()


def test_the_same_input_gives_the_same_bytes(tmp_path):
    paths = [EXAMPLES / f"{name}.raw.json" for name in NAMES]
    for folder in ("a", "b"):
        build(paths, tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.json"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_dialog_of_speech_alone_says_so_in_its_score(tmp_path):
    said = [
        turn("assistant", 2.0, "Boil the water."),
        turn("assistant", 9.0, "Pour the milk."),
        turn("assistant", 15.0, "Stir."),
    ]
    with_lines = build_videos(tmp_path / "a", video(*said)).dialogs[0]
    spoken = build_videos(tmp_path / "b", video(*said, parsed_video_anns=None)).dialogs[0]
    assert spoken.score <= 5 < with_lines.score
    assert [change.transition for change in spoken.changes] == ["start", "complete", "start", "complete", "start"]
