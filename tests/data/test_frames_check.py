"""The check of frames before a run starts: existence, range, JPEG headers."""

import base64
import os

import pyarrow as pa
import pytest

from dst_dist.data import frames
from dst_dist.data.certificates import Certificates
from dst_dist.data.dataset import Clips, apply_frame_faults
from dst_dist.data.frames import ArrowFrames, open_frames, write_frames
from dst_dist.data.frames_check import check_frames
from dst_dist.data.reading import read_clips
from tests.data.handmade import (
    make_root,
    noise,
    noisy_jpeg,
    prospect_clip,
    undecodable,
    video,
    write_base64,
    write_column,
    write_prospect,
)


def index_of(root, *clips):
    write_prospect(root, list(clips))
    return read_clips(root, ["kitchen"], "train", strict=True)[0]


def test_faultless_frames(tmp_path):
    index = index_of(make_root(tmp_path), prospect_clip())
    faults = check_frames(index)
    assert (faults.clips, faults.missing) == ({}, {})
    size = (tmp_path / "kitchen/frames/tea.arrow").stat().st_size
    assert {video: stat.size for video, stat in faults.files.items()} == {"kitchen/frames/tea.arrow": size}


def test_faults_are_those_of_the_clips_own_frames(tmp_path):
    root = make_root(tmp_path)
    rows = video(10)
    rows[0] = rows[5] = rows[7] = b"no"
    write_base64(root / "kitchen/frames/tea.arrow", rows)
    later = {"conversation": [{"role": "system", "content": "x"}]}
    index = index_of(
        root,
        prospect_clip(),  # frames 2..9
        prospect_clip(clip_idx=1, start_frame_idx=1, end_frame_idx=5, **later),
        prospect_clip(clip_idx=2, start_frame_idx=8, end_frame_idx=12, **later),
        prospect_clip(clip_idx=3, start_frame_idx=10, end_frame_idx=12, **later),
        prospect_clip(clip_idx=4, frames_file="kitchen/frames/none.arrow"),
    )
    faults = check_frames(index)
    assert faults.missing == {0: (5, 7), 2: (10, 11), 3: (10, 11), 4: tuple(range(2, 10))}
    assert faults.clips == {
        0: "clip kitchen/tea/0: 2 of 8 frames in kitchen/frames/tea.arrow are missing or corrupt, "
        "the first is frame 5: not a JPEG image",
        2: "clip kitchen/tea/2: 2 of 4 frames in kitchen/frames/tea.arrow are missing or corrupt, "
        "the first is frame 10: the file has 10 rows",
        3: "clip kitchen/tea/3: 2 of 2 frames in kitchen/frames/tea.arrow are missing or corrupt, "
        "the first is frame 10: the file has 10 rows",
        4: "clip kitchen/tea/4: 8 of 8 frames in kitchen/frames/none.arrow are missing or corrupt, "
        "the first is frame 2: no such file",
    }


def test_each_row_is_looked_at_once(tmp_path, monkeypatch):
    root = make_root(tmp_path)
    index = index_of(root, *(prospect_clip(clip_idx=number) for number in range(4)))
    looked_at = []
    check_header = ArrowFrames.check_header
    monkeypatch.setattr(
        ArrowFrames, "check_header", lambda file, row: (looked_at.append(row), check_header(file, row))[1]
    )
    assert not check_frames(index).clips
    assert sorted(looked_at) == list(range(2, 10))


def test_headers_longer_than_what_is_read_first_are_fine(tmp_path):
    root = make_root(tmp_path)
    rows = video(12)
    noise(5, (8, 8)).save(tmp_path / "x.jpg", "JPEG", icc_profile=b"p" * 20_000)
    rows[4] = (tmp_path / "x.jpg").read_bytes()
    for write in (write_base64, write_frames):
        write(root / "kitchen/frames/tea.arrow", rows)
        assert not check_frames(index_of(root, prospect_clip())).clips


def test_a_header_check_decodes_no_more_base64_than_it_needs(tmp_path, monkeypatch):
    noise(6, (600, 600)).save(tmp_path / "x.jpg", "JPEG")
    file = (tmp_path / "x.jpg").read_bytes()
    assert len(file) > 100_000
    write_base64(tmp_path / "v.arrow", [file])
    decoded = []
    b64decode = base64.b64decode
    monkeypatch.setattr(base64, "b64decode", lambda data, **how: decoded.append(len(data)) or b64decode(data, **how))
    open_frames(str(tmp_path / "v.arrow")).check_header(0)
    assert decoded == [frames.PLAIN_HEADER_BYTES, frames.END_BYTES]


def damaged(tmp_path):
    """Four rows that only a closer and closer look finds faulty: none, of no bytes, no JPEG, not to be decoded."""
    root = make_root(tmp_path)
    rows = video(12)
    rows[3], rows[4], rows[5] = b"", b"no", undecodable(noisy_jpeg(tmp_path / "x.jpg"))
    write_frames(root / "kitchen/frames/tea.arrow", rows[:11])
    return index_of(root, prospect_clip(end_frame_idx=12))


@pytest.mark.parametrize("level, rows", [("rows", (3, 11)), ("headers", (3, 4, 11)), ("decode", (3, 4, 5, 11))])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_closer_look_finds_more(tmp_path, level, rows, num_workers):
    index = damaged(tmp_path)
    assert check_frames(index, level, num_workers=num_workers).missing == {0: rows}


@pytest.mark.parametrize(
    "level, next_level, looked_at",
    [
        ("headers", "headers", [3, 4, 11]),
        ("headers", "rows", [3, 4, 11]),
        ("headers", "decode", list(range(2, 12))),
        ("decode", "headers", [3, 4, 5, 11]),
    ],
)
def test_good_rows_are_looked_at_once_and_faulty_ones_again(tmp_path, monkeypatch, level, next_level, looked_at):
    index, certificates = damaged(tmp_path), Certificates(None)
    os.utime(tmp_path / "kitchen/frames/tea.arrow", (1, 1))
    check_frames(index, level, certificates)
    seen = []
    cell = ArrowFrames._cell
    monkeypatch.setattr(ArrowFrames, "_cell", lambda file, row: (seen.append(row), cell(file, row))[1])
    assert check_frames(index, next_level, certificates).missing == check_frames(index, next_level).missing
    del seen[len(looked_at) :]
    assert seen == looked_at


def test_many_files_on_several_processes_give_the_same_verdict(tmp_path):
    root = make_root(tmp_path)
    clips = [prospect_clip(clip_idx=number, frames_file=f"kitchen/frames/v{number}.arrow") for number in range(6)]
    for number in range(6):
        write_frames(root / f"kitchen/frames/v{number}.arrow", video(12 - number))
    index = index_of(root, *clips)
    alone = check_frames(index)
    assert alone.clips.keys() == {3, 4, 5} and check_frames(index, num_workers=3) == alone


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("arrow_file", [False, True])
@pytest.mark.parametrize("is_base64", [False, True])
def test_what_a_compressed_file_costs_is_said_at_every_start(tmp_path, compression, arrow_file, is_base64):
    root = make_root(tmp_path)
    path = root / "kitchen/frames/tea.arrow"
    rows = [base64.b64encode(row).decode() for row in video(12)] if is_base64 else video(12)
    write_column(path, "frame", [pa.array(rows[:5]), pa.array(rows[5:])], arrow_file, compression)
    os.utime(path, (1, 1))
    index, certificates = index_of(root, prospect_clip()), Certificates(None)
    for _ in range(2):
        faults = check_frames(index, certificates=certificates)
        assert not faults.clips
        held = faults.held_bytes.get("kitchen/frames/tea.arrow", 0)
        assert sum(map(len, rows)) <= held if compression else held == 0
        notes = apply_frame_faults(Clips(index, [1], ["before"]), faults, "error").notes
        assert len(notes) == 1 + bool(compression)
    if compression:
        assert "1 of 1 frames files are compressed: each data worker holds" in notes[1] and "tea.arrow" in notes[1]


UNUSUAL = {
    "an end marker": (lambda whole: whole, True),
    "no end marker": (lambda whole: whole[:-2], False),
    "half an end marker": (lambda whole: whole[:-1], False),
    "a tenth missing": (lambda whole: whole[: len(whole) * 9 // 10], False),
    "zeros behind": (lambda whole: whole + bytes(10), True),
    "a phone's trailer behind": (lambda whole: whole + b"SEFT" * 100, True),
    "half of it, and zeros": (lambda whole: whole[: len(whole) // 2] + bytes(100), False),
}


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("write", [write_frames, write_base64])
def test_how_a_jpeg_ends_is_seen_at_the_start_as_decoding_sees_it(tmp_path, name, write):
    """Nothing that a run would find corrupt hours later passes, and nothing that decodes is refused."""
    change, is_good = UNUSUAL[name]
    write(tmp_path / "v.arrow", [change(noisy_jpeg(tmp_path / "x.jpg"))])
    assert [_is_good(tmp_path, look) for look in ("check_header", "image")] == [is_good, is_good]


def _is_good(folder, look):
    try:
        getattr(open_frames(str(folder / "v.arrow")), look)(0)
    except frames.DECODE_ERRORS:
        return False
    return True


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.rstrip("="),
        lambda text: text[:-1],
        lambda text: text[:-3],
        lambda text: f"data:image/jpeg;base64,{text}",
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text[:76] + "\n" + text[76:],
    ],
    ids=["no padding", "one short", "three short", "data URI", "URL alphabet", "line breaks"],
)
def test_base64_that_cannot_be_read_is_seen_at_the_start(tmp_path, spoil):
    file = noisy_jpeg(tmp_path / "x.jpg")
    # Of a length that needs padding.
    text = base64.b64encode(file + bytes((1 - len(file)) % 3)).decode()
    assert text.endswith("=")
    for written, is_good in ((text, True), (spoil(text), False)):
        write_column(tmp_path / "v.arrow", "frame", [pa.array([written])])
        assert [_is_good(tmp_path, look) for look in ("check_header", "image")] == [is_good, is_good]
