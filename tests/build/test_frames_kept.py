"""Files beside a video's frames: what this command did not write stays, and rows never stand beside another's rate."""

import errno
import json
import os
import time

import numpy as np
import pytest

from dst_dist.build.frames import make_frames
from dst_dist.data.frames import open_frames, write_frames
from dst_dist.errors import ConfigError, DataError
from tests.data.videos import write_video
from tests.refusing import refused

SHADES, TIMES_MS = [20, 60, 100, 140], [0, 500, 1000, 1500]


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "tea.mp4", SHADES, TIMES_MS)
    return tmp_path / "tea.mp4"


def made(videos, out, fps=2.0) -> list[str]:
    return list(make_frames(videos, out, fps, None))


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_and_rate(folder) -> tuple[int, float] | None:
    """Return what a builder finds: the number of rows, and the rate beside them."""
    if not (folder / "tea.arrow").is_file():
        return None
    return len(open_frames(str(folder / "tea.arrow"))), json.loads((folder / "tea.json").read_text())["fps"]


OTHERS = ['[{"video_uid": "tea"}]', '{"video_uid": "tea"}', '{"fps": 1.5}', '{"fps": 2, "num_frames": 4}', "{", ""]


@pytest.mark.parametrize("has_rows", [True, False])
@pytest.mark.parametrize("text", OTHERS)
def test_a_file_of_the_users_is_refused_by_name_and_stays(tmp_path, video, text, has_rows):
    (tmp_path / "tea.json").write_text(text)
    if has_rows:
        write_frames(tmp_path / "tea.arrow", [b"x"] * 4)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=r"tea\.json.*not written by `dst-dist frames`"):
        made([video], tmp_path)
    assert content(tmp_path) == before


def test_rows_of_the_users_are_refused_too_and_all_at_once_before_anything_is_decoded(tmp_path, video):
    write_video(tmp_path / "soup.mp4", SHADES, TIMES_MS)
    (tmp_path / "frames/soup.json").mkdir(parents=True)
    write_frames(tmp_path / "frames/tea.arrow", [b"x"])
    with pytest.raises(ConfigError, match=r"(?s)2 faults.*tea\.arrow.*soup\.json"):
        made([video, tmp_path / "soup.mp4"], tmp_path / "frames")
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["soup.json", "tea.arrow"]


def test_a_video_that_is_cut_off_now_leaves_the_old_rows_with_their_rate(tmp_path, video):
    made([video], tmp_path / "frames", fps=4.0)
    before = content(tmp_path / "frames")
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(DataError, match=r"tea\.mp4"):
        made([video], tmp_path / "frames")
    assert content(tmp_path / "frames") == before


def die_at(number: int, monkeypatch) -> None:
    """End the process without a word at the `number`-th call that changes a file of the video."""
    calls = iter(range(1000))
    for name in ("open", "replace", "unlink", "fsync"):
        intact = getattr(os, name)

        def dying(of, *others, intact=intact, **words):
            place = os.readlink(f"/proc/self/fd/{of}") if isinstance(of, int) else os.fspath(of)
            if "frames/" in place and "tea" in place and next(calls) == number:
                os._exit(9)
            return intact(of, *others, **words)

        monkeypatch.setattr(os, name, dying)


def test_a_kill_at_any_moment_leaves_no_rows_beside_another_rate(tmp_path, video, monkeypatch):
    made([video], tmp_path / "frames", fps=4.0)
    (old,) = {rows_and_rate(tmp_path / "frames")}
    seen = []
    for number in range(1000):
        if (pid := os.fork()) == 0:
            die_at(number, monkeypatch)
            made([video], tmp_path / "frames")
            os._exit(0)
        ended = os.waitpid(pid, 0)[1]
        seen.append(rows_and_rate(tmp_path / "frames"))
        if ended == 0:
            break
        made([video], tmp_path / "frames", fps=4.0)
        assert rows_and_rate(tmp_path / "frames") == old
    assert len(seen) > 5 and seen[0] == old and seen[-1] == ((old[0] + 1) // 2, 2.0)
    assert set(seen) == {old, None, seen[-1]}


@pytest.mark.parametrize("call", ["replace", "flush file"])
def test_a_failure_to_put_files_in_place_is_a_fault(tmp_path, video, call, monkeypatch):
    made([video], tmp_path / "frames", fps=4.0)
    monkeypatch.setattr("dst_dist.build.frames.try_folder", lambda *_: [])
    with refused(call, errno.ENOSPC, tmp_path / "frames"), pytest.raises(DataError, match=r"tea\.arrow.*No space left"):
        made([video], tmp_path / "frames")
    assert rows_and_rate(tmp_path / "frames") is None or call == "flush file"
    assert made([video], tmp_path / "frames")[0].endswith("s")


def test_rows_that_were_damaged_since_are_made_again(tmp_path, video):
    made([video], tmp_path / "frames")
    (tmp_path / "frames/tea.arrow").write_bytes(b"")
    made([video], tmp_path / "frames")
    assert rows_and_rate(tmp_path / "frames")[1] == 2.0


def test_what_killed_runs_left_is_removed_when_nobody_can_be_writing_it(tmp_path, video):
    made([video], tmp_path / "frames")
    left = {name: tmp_path / "frames" / name for name in (".tea.arrow." + "0" * 16, ".tea.json." + "1" * 16)}
    new, other = tmp_path / "frames" / (".tea.arrow." + "2" * 16), tmp_path / "frames" / (".soup.arrow." + "3" * 16)
    for path in (*left.values(), new, other):
        path.write_bytes(b"half")
    for path in (*left.values(), other):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    made([video], tmp_path / "frames")
    assert content(tmp_path / "frames").keys() == {"tea.arrow", "tea.json", new.name, other.name}


@pytest.mark.parametrize("num_videos", [1, 2])
def test_an_interrupted_run_leaves_no_partial_copies(tmp_path, monkeypatch, num_videos):
    videos = [tmp_path / f"{number}.mp4" for number in range(num_videos)]
    for path in videos:
        write_video(path, SHADES, TIMES_MS)
    monkeypatch.setattr("dst_dist.build.frames.num_cores", lambda: 2)
    main = os.getpid()

    def rows(video, fps):
        """Yield a batch; then be interrupted, or in a worker go on until it is killed."""
        yield from [picture] * 64
        if os.getpid() == main:
            raise KeyboardInterrupt
        time.sleep(600)

    picture = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr("dst_dist.build.frames.read_container", rows)

    def receive(receiver, worker):
        while len(list((tmp_path / "frames").glob(".*.arrow.*"))) < num_videos:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("dst_dist.data.forks._receive", receive)
    with pytest.raises(KeyboardInterrupt):
        made(videos, tmp_path / "frames")
    assert list((tmp_path / "frames").iterdir()) == []
