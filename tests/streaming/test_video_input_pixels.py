"""Whichever way an input comes in, it is the same pixels, words and times."""

import io
import itertools
import json
import struct

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from dst_dist.data.features import FeatureReader, FeatureStore, Layout
from dst_dist.data.frames import FrameReader, open_frames, write_frames
from dst_dist.data.images import thumbnail
from dst_dist.data.reading import read_clips
from dst_dist.report import thumbnails
from dst_dist.streaming.video_input import read_task, read_video
from dst_dist.streaming.watch import given_turns
from tests.data.dialogs import make_maker, whole_sample
from tests.data.handmade import (
    make_root,
    noise,
    proassist_clip,
    prospect_clip,
    spoken,
    step,
    write_base64,
    write_column,
    write_proassist,
    write_prospect,
)
from tests.streaming.test_video_input import write_video

SIZE = 24
XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def exif(orientation, order="<"):
    """An EXIF block with this orientation alone."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def encoded(mode="RGB", format="JPEG", **options):
    buffer = io.BytesIO()
    noise(5, (48, 40)).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def with_segment(marker, content):
    """A JPEG with one more segment behind its first."""
    whole = encoded()
    return whole[:20] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content + whole[20:]


JPEGS = {
    "plain": encoded(),
    "grey": encoded("L"),
    "CMYK": encoded("CMYK"),
    "progressive": encoded(progressive=True),
    "a camera's several pictures": encoded(format="MPO", save_all=True, append_images=[noise(6, (48, 40))]),
    **{f"orientation {number}": encoded(exif=exif(number)) for number in range(1, 9)},
    "orientation 6, big-endian": encoded(exif=exif(6, ">")),
    "orientation 6, grey": encoded("L", exif=exif(6)),
    "orientation 6, CMYK": encoded("CMYK", exif=exif(6)),
    "orientation 6, progressive": encoded(progressive=True, exif=exif(6)),
    "orientation 6, several pictures": encoded(
        format="MPO", save_all=True, append_images=[noise(6, (48, 40))], exif=exif(6)
    ),
    "orientation 6 in XMP": with_segment(0xE1, XMP),
    "no such orientation": encoded(exif=exif(9)),
    "tags that cannot be read": with_segment(0xE1, b"Exif\0\0no tags"),
    "tags that are cut off": with_segment(0xE1, exif(6)[:20]),
    "a colour profile": encoded(icc_profile=b"p" * 5000),
    "something behind": encoded() + b"more",
}


def trained_on(path):
    """The pixels of a frames file as data workers of training and evaluation read them."""
    out = torch.empty(len(JPEGS), 3, SIZE, SIZE, dtype=torch.uint8)
    assert FrameReader(SIZE).read(str(path), range(len(JPEGS)), out).all()
    return out.numpy()


def from_features(folder):
    """The pixels that a tower is shown when features are kept; these features are the pixels."""
    write_frames(folder / "data/v.arrow", JPEGS.values())
    store = FeatureStore(folder / "cache", folder / "data", Layout((3, SIZE, SIZE), torch.float32))
    store.write_grey(torch.Tensor.float, SIZE)
    path = str(folder / "data/v.arrow")
    store.write(path, torch.Tensor.float, SIZE, rows_at_once=3, num_threads=2)
    reader = FeatureReader(store)
    out = reader.empty(len(JPEGS))
    assert reader.read(path, range(len(JPEGS)), out).all()
    return out.numpy().astype(np.uint8)


def every_way(folder):
    """Yield the name of each way for JPEG files to come in, and the pixels, uint8 [n, 3, SIZE, SIZE]."""
    files = list(JPEGS.values())
    write_frames(folder / "binary.arrow", files)
    write_base64(folder / "base64.arrow", files)
    write_base64(folder / "file.arrow", files, arrow_file=True)
    write_column(folder / "large.arrow", "frame", [pa.array(files, pa.large_binary())])
    for name in ("binary", "base64", "file", "large"):
        yield f"trained on, {name}", trained_on(folder / f"{name}.arrow")
        yield f"streamed, {name}", np.stack(list(read_video(folder / f"{name}.arrow", 2.0, SIZE)))
    (folder / "images").mkdir()
    for number, file in enumerate(files):
        (folder / f"images/{number}.jpg").write_bytes(file)
    yield "streamed, a folder", np.stack(list(read_video(folder / "images", 2.0, SIZE)))
    yield "features", from_features(folder)


def test_every_way_gives_the_pixels_of_every_other(tmp_path):
    ways = dict(every_way(tmp_path))
    assert len(ways) == 10
    for (name, pixels), (other_name, other) in itertools.combinations(ways.items(), 2):
        for kind, one, another in zip(JPEGS, pixels, other, strict=True):
            np.testing.assert_array_equal(one, another, f"{kind}: {name} and {other_name}")
    by_kind = dict(zip(JPEGS, ways["features"], strict=True))
    upright = {by_kind[f"orientation {number}"].tobytes() for number in range(1, 9)}
    assert len(upright) == 8 and (by_kind["orientation 6 in XMP"] == by_kind["orientation 6"]).all()


def test_the_report_shows_a_frame_as_the_model_sees_it(tmp_path):
    write_frames(tmp_path / "v.arrow", [JPEGS["orientation 6"]])
    _, aspect = thumbnail(open_frames(str(tmp_path / "v.arrow")).image(0), thumbnails.SIZE, thumbnails.QUALITY)
    assert aspect == pytest.approx(40 / 48, abs=0.02)


@pytest.mark.parametrize("suffix, codec, pix_fmt", [(".mkv", "ffv1", "bgr0"), (".mov", "png", "rgb24")])
def test_a_video_without_loss_has_the_pixels_of_its_pictures(tmp_path, suffix, codec, pix_fmt):
    pictures = [noise(seed, (64, 48)) for seed in range(3)]
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"images/{number}.png")
    write_video(
        tmp_path / f"v{suffix}", range(3), [0, 500, 1000], codec=codec, pix_fmt=pix_fmt,
        picture_of=lambda number, _: pictures[number],
    )  # fmt: skip
    of_video, of_folder = (list(read_video(tmp_path / name, 2.0, SIZE)) for name in (f"v{suffix}", "images"))
    np.testing.assert_array_equal(of_video, of_folder)


TURNS = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
    (1, 0, 0, 1): None,
}


@pytest.mark.parametrize("matrix", TURNS)
def test_a_video_filmed_with_the_phone_in_any_way_is_turned(tmp_path, matrix):
    """The matrix in the track's header; each corner of the picture has its own brightness."""
    path, corners = tmp_path / "v.mp4", np.kron(np.array([[0, 60], [120, 240]], np.uint8), np.ones((24, 32), np.uint8))
    write_video(path, [0], [0], picture_of=lambda *_: Image.fromarray(corners))
    header, identity = path.read_bytes(), fixed_point(1, 0, 0, 1)
    place = header.index(identity, header.index(b"tkhd"))
    path.write_bytes(header[:place] + fixed_point(*matrix) + header[place + len(identity) :])
    image = Image.fromarray(corners)
    expected = np.asarray(image if TURNS[matrix] is None else image.transpose(TURNS[matrix]))
    (frame,) = read_video(path, 2.0, SIZE)
    for y, x in itertools.product((0, -1), (0, -1)):
        assert abs(int(frame[0, y, x]) - int(expected[y, x])) < 30


def fixed_point(a, b, c, d):
    """The five numbers of a track's matrix from its first on."""
    return (np.array([a, b, 0, c, d], ">i4") << 16).astype(">i4").tobytes()


WORDS = "Make te\u0301a, <image> \u4e2d"


def the_same_dialog(root):
    """Yield one dialog without updates as each of the ways words come in makes it."""
    spoken_turns = [spoken("user", f"{WORDS} now?", 4, 6), spoken("user", "And then?", 8, 10)]
    system = {"role": "system", "content": f" {WORDS}\n"}
    head = {"start_frame_idx": 0, "end_frame_idx": 12, "inferred_goal": WORDS, "dst": [step(1, WORDS), step(2, "b")]}
    state = {"S1": "completed", "S2": "not_started"}
    write_prospect(root, [prospect_clip(conversation=[system, *spoken_turns], initial_dst_state=state, **head)])
    yield read_clips(root, ["kitchen"], "train", True)[0][0]
    stated = [{**turn, "dst_state": state} for turn in spoken_turns]
    write_prospect(root, [prospect_clip(conversation=[system, *stated], **head)])
    yield read_clips(root, ["kitchen"], "train", True)[0][0]
    users = [{"time_s": 2.5, "text": f"{WORDS} now?"}, {"time_s": 4.5, "text": "And then?"}]
    task = {"goal": WORDS, "steps": [WORDS, "b"], "prompt": f" {WORDS}\n", "user": users, "initial_dst_state": state}
    (root / "task.json").write_text(json.dumps(task))
    yield read_task(root / "task.json")


def test_every_way_gives_the_words_and_times_of_every_other(tmp_path):
    maker = make_maker("smol")
    opened = []
    for clip in the_same_dialog(make_root(tmp_path)):
        given = {frame: [(turn.role, turn.text) for turn in turns] for frame, turns in given_turns(clip).items()}
        opened.append((maker.writer.header(clip, clip.initial_state), given, clip.fps))
    assert opened[0] == opened[1] == opened[2]
    assert list(opened[0][1]) == [5, 9]


def test_both_formats_of_clips_give_a_dialog_without_steps_alike(tmp_path):
    root, maker = make_root(tmp_path), make_maker("smol")
    turns = [{"role": "system", "content": WORDS}, spoken("user", WORDS, 2, 4), spoken("assistant", "Chop.", 3, 4)]
    write_prospect(root, [prospect_clip(conversation=turns, inferred_goal="Make soup", dst=[])])
    frames = [{"role": "frames", "start": 2, "end": 4}, {"role": "frames", "start": 4, "end": 10}]
    said = [{"role": "user", "content": WORDS, "time": 1.5}, {"role": "assistant", "content": "Chop.", "time": 1.5}]
    write_proassist(root, [proassist_clip(conversation=[turns[0], frames[0], *said, frames[1]])])
    clips = [read_clips(root, [name], "train", True)[0][0] for name in ("kitchen", "cooking/prepared/train.jsonl")]
    samples = [whole_sample(maker, clip) for clip in clips]
    for one, other in zip(*(vars(sample).values() for sample in samples), strict=True):
        np.testing.assert_equal(one, other)
