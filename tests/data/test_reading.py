"""The files that a recipe names: formats, names and weights, ids, shared videos."""

import json
import re
from pathlib import Path

from dst_dist.data import frames_finder, reading
from dst_dist.data.reading import shared_videos
from tests.data.clip_files import read
from tests.data.handmade import make_root, proassist_clip, prospect_clip, write_proassist, write_prospect


def test_names_weights_and_order(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(clip_idx=n) for n in range(2)])
    index, weights, _ = read(root, {"toys": 3}, "kitchen/train_training.json", {"cooking/prepared/train.jsonl": 1})
    assert [clip.dataset for clip in index] == ["toys", "kitchen", "kitchen", "cooking"]
    assert weights == [3, 1, 1, 1]


def test_the_split_names_the_file(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(video_uid="coffee")], split="val")
    index, _, _ = read(root, "kitchen", split="val")
    assert index[0].id == "kitchen/coffee/0"


def test_formats_are_told_apart_by_content(tmp_path):
    root = make_root(tmp_path)
    (root / "mixed.jsonl").write_text(json.dumps([proassist_clip(), prospect_clip()], indent=2))
    (root / "lines.json").write_text(f"\ufeff\n{json.dumps(prospect_clip())}\n\n{json.dumps(proassist_clip())}\n")
    (root / "single.json").write_text(json.dumps(proassist_clip(clip_idx=7), indent=1))
    index, _, _ = read(root, "mixed.jsonl", "lines.json", "single.json")
    assert [(clip.dataset, clip.has_dst) for clip in index] == [
        ("cooking", False),
        ("kitchen", True),
        ("kitchen", True),
        ("cooking", False),
        ("cooking", False),
    ]


def test_ids_are_taken_as_given_and_told_apart_when_made(tmp_path):
    root = make_root(tmp_path)
    write_proassist(root, [proassist_clip(), proassist_clip(), proassist_clip(id="mine"), proassist_clip()])
    index, _, report = read(root, "cooking/prepared/train.jsonl")
    assert [clip.id for clip in index] == ["cooking/soup/0", "cooking/soup/0#2", "mine", "cooking/soup/0#3"]
    assert report.counts["clips whose id was taken, numbered #2 and on"] == 2


def test_videos_in_two_splits_are_counted(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(clip_idx=1), prospect_clip(clip_idx=2)], split="val")
    splits = {"train": read(root, "kitchen", "toys")[0], "val": read(root, "kitchen", split="val")[0]}
    assert shared_videos(splits) == ["1 videos in two splits, for example: kitchen/frames/tea.arrow in train and val"]


def test_one_frames_file_at_several_rates_is_counted(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(clip_idx=number, fps=fps) for number, fps in enumerate((2.0, 2.0, 30.0))])
    _, _, report = read(root, "kitchen", strict=False)
    assert report.examples[reading.SEVERAL_RATES] == ["kitchen/frames/tea.arrow (2, 30)"]


def test_moving_the_data_keeps_the_fingerprint(tmp_path):
    fingerprints = {read(make_root(tmp_path / name), "kitchen")[0].fingerprint() for name in "ab"}
    assert len(fingerprints) == 1


def test_the_examples_of_the_readme_are_faultless_clips(tmp_path):
    readme = Path(reading.__file__).with_name("README.md").read_text()
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", readme, re.DOTALL)]
    root = make_root(tmp_path)
    (root / "examples.json").write_text(json.dumps(examples))
    index, _, report = read(root, "examples.json")
    assert [(clip.id, clip.has_dst) for clip in index] == [("kitchen/tea/0", True), ("cooking/soup/0", False)]
    assert [[(turn.role, turn.frame) for turn in clip.turns] for clip in index] == [
        [("user", 3), ("DST_UPDATE", 4), ("assistant", 4)],
        [("user", 3), ("assistant", 3)],
    ]
    assert dict(report.counts) == {frames_finder.BELOW_DATASET: 1}
