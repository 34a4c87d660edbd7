"""The cache of an earlier start, where starts are cut, meet, are several processes, or cannot write."""

import errno
import logging
import os
import signal
import time

import pytest

import dst_dist.setup
from dst_dist.data import index_cache, mapped_file
from dst_dist.data.frames import write_frames
from dst_dist.errors import DataError
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.data.handmade import make_root, prospect_clip, video, write_prospect
from tests.refusing import refused
from tests.starting import Start, content_of, noting_reads, settle


@pytest.fixture
def root(tmp_path):
    root = make_root(tmp_path / "data")
    write_prospect(root, [prospect_clip(clip_idx=number) for number in range(3)])
    settle(root)
    return root


@pytest.fixture
def words(demo, root):
    names = "data.train=[kitchen, toys]"
    return ["demo", f"model.name_or_path={demo}/model", f"data.root={root}", names, "data.val=[]", "train.max_frames=8"]


def entry(root):
    (path,) = (root / ".dst_dist").glob("*.clips")
    return path


DAMAGES = {
    "empty": lambda content: b"",
    "cut in the header": lambda content: content[:200],
    "cut by a byte": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "another digest": lambda content: b"0" + content[1:] if content[:1] != b"0" else b"1" + content[1:],
    "a bit in the clips": lambda content: content.replace(b"Make tea", b"Make tee"),
    "a bit in the last array": lambda content: content[:-3] + bytes([content[-3] ^ 4]) + content[-2:],
    "text": lambda content: b"hello\n" * 100,
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_entry_is_read_anew_and_replaced(words, root, case):
    first = Start(words).content
    path = entry(root)
    content = path.read_bytes()
    damaged = DAMAGES[case](content)
    assert damaged != content
    # The mapped file stays as it is.
    path.unlink()
    path.write_bytes(damaged)
    again = Start(words)
    assert again.read == ["train"] and again.content == first
    assert path.read_bytes() == content and Start(words).read == []


def test_an_entry_of_another_key_under_this_name_is_not_used(words, root):
    first = Start(words)
    mine = entry(root)
    kept = mine.read_bytes()
    mine.unlink()
    Start([*words, "data.context_seconds=1.0"])
    other = entry(root)
    other.rename(mine)
    again = Start(words)
    assert again.read == ["train"] and again.content == first.content and mine.read_bytes() == kept


KILLED_AT = {
    "the first look at a row": (dst_dist.setup, "check_frames"),
    "cutting": (dst_dist.setup, "cut_split"),
    "the written certificates": (mapped_file, "_digest"),
    "the unfinished entry": (index_cache, "write_mapped"),
    "the entry before its name": (os, "fsync"),
    "the named entry": (index_cache.IndexCache, "_remove_unused"),
}


@pytest.mark.parametrize("point", KILLED_AT)
def test_a_start_that_was_killed_leaves_nothing_wrong(words, root, monkeypatch, point):
    place, name = KILLED_AT[point]
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(place, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        Start(words)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    again = Start(words)
    assert again.read == ([] if point == "the named entry" else ["train"])
    assert Start(words).read == []
    nowhere = root.parent / "file"
    nowhere.write_text("")
    assert again.content == Start([*words, f"data.index_cache={nowhere}"]).content


def test_starts_at_the_same_time_do_not_disturb_each_other(words, root):
    begin_s = time.time() + 0.5
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            time.sleep(max(0.0, begin_s - time.time()))
            start = Start(words)
            os._exit(start.data.fingerprint != start.setup.datasets(start.checks)["train"].fingerprint)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert Start(words).read == []
    assert not [path for path in (root / ".dst_dist").iterdir() if path.name.startswith(".")]


def test_without_a_place_to_write_there_is_no_cache_and_one_line_says_so(words, root, caplog):
    (root / ".dst_dist").write_text("a file in the folder's place")
    with caplog.at_level(logging.INFO, logger="dst_dist"):
        starts = [Start(words), Start(words)]
    assert [start.read for start in starts] == [["train"], ["train"]]
    assert starts[0].content == starts[1].content
    lines = [message for message in caplog.messages if "cannot be used" in message]
    assert len(lines) == 2 and "data.index_cache" in lines[0] and str(root / ".dst_dist") in lines[0]


def test_entries_that_cannot_be_mapped_are_done_without_and_one_line_says_so(words, root, caplog):
    with refused("map", errno.ENODEV, root / ".dst_dist"):
        starts = [Start(words), Start(words)]
    assert [start.read for start in starts] == [["train"], ["train"]]
    assert starts[0].content == starts[1].content
    assert sum("cannot be used (its files cannot be mapped into memory)" in message for message in caplog.messages) == 2


@pytest.mark.parametrize("time_s", [0, 2**33])
def test_files_without_a_time_of_change_are_counted_and_nothing_is_kept(words, root, caplog, time_s):
    os.utime(root / "kitchen/frames/tea.arrow", (time_s, time_s))
    assert [Start(words).read, Start(words).read] == [["train"], ["train"]]
    lines = [message for message in caplog.messages if "a time of change in the future, or none" in message]
    assert len(lines) == 2 and lines[0].startswith("1 of 4 data and frames files")


def test_a_file_system_whose_clock_is_behind_keeps_its_entries(words, root, monkeypatch):
    intact = os.replace

    def replace(source, target, **others):
        intact(source, target, **others)
        os.utime(target, (1e9, 1e9))

    monkeypatch.setattr(os, "replace", replace)
    assert [Start(words).read, Start(words).read] == [["train"], []]


def test_another_folder_keeps_and_the_root_stays_as_it_is(words, root, tmp_path):
    before = sorted(root.rglob("*"))
    words = [*words, f"data.index_cache={tmp_path}/cache/here"]
    assert [Start(words).read, Start(words).read] == [["train"], []]
    assert sorted(root.rglob("*")) == before


def test_the_other_processes_map_what_the_main_process_kept(words, monkeypatch):
    main = Start(words)
    other = DataSetup(load_recipe(words))
    with noting_reads() as read:
        data = other.datasets(main.checks)["train"]
    assert read == [] and content_of(data) == main.content["train"]
    assert not data.samples.flags.owndata and not data.clips.index.arrays["contents"].flags.owndata
    # The main process lets go of what it has read, too.
    assert not main.data.samples.flags.owndata


@pytest.mark.parametrize("on_missing", ["filter", "placeholder"])
def test_where_nothing_is_kept_the_others_read_and_take_the_verdict_on_frames(words, root, on_missing):
    write_frames(root / "kitchen/frames/tea.arrow", [*video(7), b"no", *video(4)])
    (root / ".dst_dist").write_text("")
    words = [*words, f"data.on_missing={on_missing}"]
    main = Start(words)
    with noting_reads() as read:
        data = DataSetup(load_recipe(words)).datasets(main.checks)["train"]
    assert read == ["train"] and content_of(data) == main.content["train"]


def test_a_process_with_other_clips_is_refused(words, root):
    main = Start(words)
    (root / ".dst_dist").rename(root / "away")
    write_prospect(root, [prospect_clip()])
    with pytest.raises(DataError, match="holds other clips here"):
        DataSetup(load_recipe(words)).datasets(main.checks)


@pytest.mark.parametrize(("rank", "local_rank", "is_refused"), [(1, 1, False), (0, 0, False), (8, 0, True)])
def test_a_node_with_other_frames_files_is_refused(words, root, monkeypatch, rank, local_rank, is_refused):
    main = Start(words)
    write_frames(root / "kitchen/frames/tea.arrow", video(14))
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    other = DataSetup(load_recipe(words))
    if not is_refused:
        assert len(other.datasets(main.checks)["train"]) == len(main.data)
        return
    with pytest.raises(DataError, match="kitchen/frames/tea.arrow: .* bytes on this node"):
        other.datasets(main.checks)


def test_frames_that_were_looked_at_are_not_looked_at_again(words, root, monkeypatch):
    """Another recipe reads again, and a clip more is a reason to look at its own rows alone."""
    Start([*words, "data.check=decode"])
    monkeypatch.setattr("dst_dist.data.frames_check.open_frames", lambda *_, **__: pytest.fail("looked at"))
    assert Start([*words, "data.context_seconds=1.0"]).read == ["train"]
    assert Start([*words, "data.check=rows"]).read == ["train"]
    write_prospect(root, [prospect_clip(), prospect_clip(clip_idx=5, start_frame_idx=0)])
    settle(root)
    with pytest.raises(pytest.fail.Exception, match="looked at"):
        Start(words)
