"""The cache of an earlier start is found as long as nothing that it depends on has changed."""

import json
import shutil

import pytest

from dst_dist.data import index_cache
from dst_dist.data.frames import write_frames
from dst_dist.errors import DataError
from tests.data.datasets import spec_of
from tests.data.handmade import make_root, prospect_clip, public_style_clip, spoken, update, video, write_prospect
from tests.starting import Start, batches_equal, settle

TEA = "kitchen/frames/tea.arrow"


@pytest.fixture
def words(demo, tmp_path):
    """Clips of all kinds: one is split, one has a counted transition, two have a weight, and one's file is searched."""
    root = make_root(tmp_path / "data")
    long = prospect_clip(clip_idx=1, start_frame_idx=0, end_frame_idx=12)
    odd = [spoken("user", "hi", 2, 4), update("S1", "complete", 3, 5), spoken("assistant", "ok", 3, 5)]
    write_prospect(root, [prospect_clip(), long, prospect_clip(clip_idx=2, conversation=odd)])
    write_prospect(root, [prospect_clip(clip_idx=7)], split="val")
    shutil.copytree(demo / "model", tmp_path / "data/model")
    settle(root)
    names = "data.train=[{kitchen: 2}, toys, cooking/prepared/train.jsonl]"
    return ["demo", f"model.name_or_path={root}/model", f"data.root={root}", names, "data.val=[kitchen]"] + [
        "data.num_workers=0",
        "train.max_frames=8",
    ]


@pytest.fixture
def root(words, tmp_path):
    return tmp_path / "data"


def entries(root):
    return sorted(path.name for path in (root / ".dst_dist").iterdir())


def test_a_second_start_gives_the_same_without_reading(words, root):
    first, second = Start(words), Start(words)
    assert (first.read, second.read) == (["train", "val"], [])
    assert second.content == first.content
    assert len(first.data.notes) >= 5 and len(first.data) > 5
    specs = [spec_of(first.data, number) for number in range(len(first.data))]
    assert all(batches_equal(first.data[spec], second.data[spec]) for spec in specs)
    assert first.checks == second.checks
    kept = entries(root)
    assert [name.rpartition(".")[2] for name in kept] == ["clips", "clips", "json"]


def test_what_is_kept_is_what_is_read_without_a_cache(words, root):
    shutil.copytree(root, root.parent / "nowhere")
    (root.parent / "file").write_text("")
    uncached = Start([*words, f"data.index_cache={root.parent}/file"])
    assert Start(words).content == uncached.content == Start(words).content


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def edit_text(root):
    """The same number of bytes."""
    path = root / "kitchen/train_training.json"
    path.write_text(path.read_text().replace("I want tea.", "I want pie."))


def touch(file):
    return lambda root: (root / file).write_bytes((root / file).read_bytes())


def point_elsewhere(root):
    """The file's name becomes a link to another file, which has been there before."""
    (root / TEA).rename(root / "kitchen/frames/moved.arrow")
    (root / TEA).symlink_to(root / "kitchen/frames/moved.arrow")


CHANGED_FILES = {
    "a clip more": lambda root: rewrite(root / "kitchen/train_training.json", lambda clips: [*clips, prospect_clip()]),
    "another word": edit_text,
    "the same text written again": touch("kitchen/train_training.json"),
    "a frame more": lambda root: write_frames(root / TEA, video(13)),
    "the same frames written again": touch(TEA),
    "a link in place of a frames file": point_elsewhere,
    "a frames file where it was said to be": lambda root: write_frames(
        root / public_style_clip()["frames_file"].removeprefix("data/"), video(12)
    ),
    "another tokenizer": lambda root: rewrite(
        root / "model/tokenizer.json", lambda content: {**content, "model": {**content["model"], "merges": []}}
    ),
}


@pytest.mark.parametrize("case", CHANGED_FILES)
def test_a_changed_file_is_read_again(words, root, case):
    Start(words)
    CHANGED_FILES[case](root)
    settle(root)
    changed = Start(words)
    assert "train" in changed.read
    (root.parent / "file").write_text("")
    assert changed.content == Start([*words, f"data.index_cache={root.parent}/file"]).content
    assert Start(words).read == []


def test_a_second_file_of_the_same_name_is_a_fault_as_without_a_cache(words, root):
    Start(words)
    for folder in ("a", "b"):
        write_frames(root / folder / "toy-01_cam_2.arrow", video(12))
    (root / "toys/frames/toy-01_cam_2.arrow").unlink()
    settle(root)
    with pytest.raises(DataError, match="several files have this name"):
        Start(words)


@pytest.mark.parametrize("on_missing", ["filter", "placeholder"])
def test_a_frames_file_that_goes_and_comes_back(words, root, on_missing):
    words = [*words, f"data.on_missing={on_missing}", "data.val=[]"]
    whole = Start(words).content
    (root / TEA).rename(root / "away")
    without, again = Start(words), Start(words)
    assert (without.read, again.read) == (["train"], [])
    assert without.content == again.content != whole
    assert without.data.notes != whole["train"]["notes"]
    (root / "away").rename(root / TEA)
    back = Start(words)
    assert back.read and back.content == whole


CHANGED_KEYS = [
    "data.train=[kitchen]",
    "data.train=[{kitchen: 3}, toys, cooking/prepared/train.jsonl]",
    "data.frames=event",
    "data.on_missing=filter",
    "data.check=rows",
    "data.max_seq_len=200",
    "data.context_seconds=1.0",
    "labels.positive_frames=all",
    "train.max_tokens=200",
    "train.max_frames=7",
]


@pytest.mark.parametrize("word", CHANGED_KEYS)
def test_a_key_that_decides_is_read_anew(words, root, word):
    Start(words)
    changed = Start([*words, word])
    assert "train" in changed.read
    (root.parent / "file").write_text("")
    assert changed.content == Start([*words, word, f"data.index_cache={root.parent}/file"]).content
    assert Start(words).read == []


def test_the_tokens_of_a_frame_and_the_tokenizer_are_part_of_the_key(words):
    setup = Start(words).setup
    cache, data, maker = index_cache.IndexCache(setup.recipe.data), setup.recipe.data, setup.maker()
    keys = [cache.key(data, "train", maker, tokenizer) for tokenizer in ("a", "b")]
    maker.writer.tokens_per_frame = 9
    keys.append(cache.key(data, "train", maker, "a"))
    assert len({json.dumps(key) for key in keys}) == 3


def test_strict_reading_finds_its_faults_behind_a_cache(words):
    Start(words)
    with pytest.raises(DataError, match="S1"):
        Start([*words, "data.strict=true"])


def test_other_code_reads_again(words, monkeypatch):
    Start(words)
    monkeypatch.setattr(index_cache, "code_digest", lambda: "other")
    assert Start(words).read == ["train", "val"]


@pytest.mark.parametrize(
    "word", ["seed=3", "data.num_workers=1", "labels.balance=none", "labels.neg_frame_sampling_rate=0.5", "data.val=[]"]
)
def test_a_key_that_decides_nothing_here_reads_nothing(words, word):
    first = Start(words)
    again = Start([*words, word])
    assert again.read == [] and again.data.samples.tolist() == first.data.samples.tolist()


def test_a_moved_root_is_read_again(words, root):
    Start(words)
    moved = root.rename(root.with_name("moved"))
    again = Start([word.replace(str(root), str(moved)) for word in words])
    assert again.read == ["train", "val"]
    assert all(clip.frames_path.startswith(str(moved)) for clip in again.data.clips.index)


def test_files_written_just_now_are_not_kept(words, root):
    touch(TEA)(root)
    for _ in range(2):
        assert Start(words).read == ["train", "val"]
        assert not [name for name in entries(root) if name.endswith(".clips")]
    settle(root)
    assert Start(words).read == ["train", "val"]
    assert Start(words).read == []


def test_entries_that_no_start_uses_are_removed_after_a_month(words, root, monkeypatch):
    Start(words)
    old = root / ".dst_dist/old.clips"
    young = root / ".dst_dist/young.clips"
    for path, age_s in ((old, index_cache.UNUSED_S + 60), (young, index_cache.UNUSED_S - 60)):
        path.write_text("")
        index_cache.os.utime(path, (index_cache.time.time() - age_s,) * 2)
    Start([*words, "data.context_seconds=2.0"])
    assert young.exists() and not old.exists()
