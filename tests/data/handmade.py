"""Small hand-written clips with their frames, in both public formats; everything is as short as can be.

Frame i of a video is a plain picture whose grey value is `grey(i)`, so that a test knows what it reads.
"""

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from dst_dist.data.frames import write_frames

PROMPT = "You watch and help."
FRAME_SIZE = (20, 12)


def grey(row: int) -> int:
    """The value of every pixel of frame `row`."""
    return (row * 40) % 256


def jpeg(value: int = 0, size: tuple[int, int] = FRAME_SIZE, mode: str = "RGB") -> bytes:
    """A one-coloured JPEG; these survive the compression exactly."""
    buffer = io.BytesIO()
    Image.new("L", size, value).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def undecodable(file: bytes) -> bytes:
    """The JPEG without its quantization tables: header and end look good, only decoding finds it corrupt."""
    return file.replace(b"\xff\xdb", b"\xff\xfe")


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    """An image of random pixels, (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def noisy_jpeg(path: Path) -> bytes:
    """The JPEG file of 64 x 64 random pixels, also written to `path`."""
    noise(4, (64, 64)).save(path, "JPEG")
    return path.read_bytes()


def video(num_frames: int) -> list[bytes]:
    """The JPEG files of a hand-made video."""
    return [jpeg(grey(row)) for row in range(num_frames)]


def write_base64(path: Path, jpegs: Iterable[bytes | None], arrow_file: bool = False) -> None:
    """The frames as ProAssist stores them: base64 strings, two rows a batch so that batches matter."""
    rows = [None if row is None else base64.b64encode(row).decode() for row in jpegs]
    write_column(path, "frame", [pa.array(rows[i : i + 2], pa.string()) for i in range(0, len(rows), 2)], arrow_file)


def write_column(
    path: Path, name: str, chunks: list[pa.Array], arrow_file: bool = False, compression: str | None = None
) -> None:
    """Any one column as an Arrow stream, or as an Arrow file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, chunks[0].type)])
    new = pa.ipc.new_file if arrow_file else pa.ipc.new_stream
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as sink, new(sink, schema, options=options) as writer:
        for chunk in chunks:
            writer.write_batch(pa.record_batch([chunk], schema=schema))


def spoken(role: str, text: str, start: int, end: int, **more: Any) -> dict:
    """A user or assistant turn on frames [start, end)."""
    return {"role": role, "content": text, "time": start / 2, "start_frame": start, "end_frame": end, **more}


def update(step: str, transition: str, start: int, end: int, **more: Any) -> dict:
    """A DST_UPDATE turn of one transition on frames [start, end)."""
    content = [{"id": step, "transition": transition}]
    return {"role": "DST_UPDATE", "content": content, "start_frame": start, "end_frame": end, **more}


def step(number: int, name: str) -> dict:
    """A declared step `S<number>`."""
    return {"type": "step", "id": f"S{number}", "name": name, "start_ts": float(number), "end_ts": number + 1.0}


def prospect_clip(**changes: Any) -> dict:
    """A faultless clip: frames [2, 10), two steps; S1 is started, completed, and S2 started with it."""
    clip = {
        "video_uid": "tea",
        "inferred_goal": "Make tea",
        "inferred_knowledge": "1. Boil water.\n2. Pour it.",
        "video_labels": {},
        "conversation": [
            {"role": "system", "content": PROMPT},
            spoken("user", "I want tea.", 2, 4, dst_state={}),
            update("S1", "start", 3, 5, dst_state={"S1": "not_started"}),
            spoken("assistant", "Boil the water.", 3, 5, dst_state={"S1": "in_progress"}),
            update("S1", "complete", 6, 8, dst_state={"S1": "in_progress"}),
            update("S2", "start", 6, 8, dst_state={"S1": "completed", "S2": "not_started"}),
            spoken("assistant", "Now pour it.", 7, 8, dst_state={"S1": "completed", "S2": "in_progress"}),
        ],
        "dst": [step(1, "Boil water"), step(2, "Pour water")],
        "frames_file": "kitchen/frames/tea.arrow",
        "start_frame_idx": 2,
        "end_frame_idx": 10,
        "seq_len": 60,
        "dataset": "kitchen",
        "clip_idx": 0,
        "max_seq_len": 4096,
        "num_tokens_per_img": 1,
        "fps": 2,
        "quality": 3.5,
    }
    return {**clip, **changes}


def public_style_clip() -> dict:
    """A clip with all that is odd in the public one, and legal.

    A system turn on frames outside the clip; `frames_file` below `data/`, with the prefix of the video's id that the
    file itself lacks; two updates at one frame, before the assistant speaks; `dst_state` that names only the steps seen
    so far; a start_frame_idx far above zero; an integer fps.
    """
    return prospect_clip(
        video_uid="assembly_toy-01_cam_2",
        dataset="toys",
        frames_file="data/toys/frames/assembly_toy-01_cam_2.arrow",
        inferred_goal="Assemble a toy",
        conversation=[
            {"role": "system", "content": PROMPT, "start_frame": 0, "end_frame": 1, "labels": "system|generic"},
            update("S1", "start", 4, 6, dst_state={"S1": "not_started"}, time=2.2),
            spoken("user", "I want to assemble a toy.", 4, 6, dst_state={"S1": "in_progress"}),
            spoken("assistant", "Take the chassis.", 4, 6, dst_state={"S1": "in_progress"}),
            update("S1", "complete", 8, 10, dst_state={"S1": "in_progress"}),
            update("S2", "start", 8, 10, dst_state={"S1": "completed", "S2": "not_started"}),
            spoken("assistant", "Now the wheels.", 8, 10, dst_state={"S1": "completed", "S2": "in_progress"}),
            update("S2", "complete", 10, 12, dst_state={"S1": "completed", "S2": "in_progress"}),
        ],
        dst=[step(1, "Assemble the chassis."), step(2, "Attach the wheels.")],
        start_frame_idx=4,
        end_frame_idx=12,
    )


def proassist_clip(**changes: Any) -> dict:
    """A faultless dialog: frames [2, 10), a question, two replies, one of them with its progress."""
    clip = {
        "dataset": "cooking",
        "video_uid": "soup",
        "clip_idx": 0,
        "frames_file": "frames/soup.arrow",
        "max_seq_len": 4096,
        "seq_len": 40,
        "num_tokens_per_img": 1,
        "use_img_sep_token": False,
        "start_frame_idx": 2,
        "end_frame_idx": 10,
        "conversation": [
            {"role": "system", "content": PROMPT},
            {"role": "frames", "start": 2, "end": 4},
            {"role": "user", "time": 2.0, "content": "What now?", "labels": "user"},
            {"role": "assistant", "time": 2.0, "content": "Chop.", "labels": "reply", "progress": "Nothing yet."},
            {"role": "frames", "start": 4, "end": 10},
            {"role": "assistant", "time": 5.0, "content": "Stir.", "labels": "initiative"},
        ],
        "fps": 2,
        "metadata": {"user_type": "talk_some", "user_id": "talk_some_0", "task_goal": "Make soup", "quality": 4},
    }
    return {**clip, **changes}


def write_prospect(root: Path, clips: Any, dataset: str = "kitchen", split: str = "train") -> Path:
    """`<root>/<dataset>/<split>_training.json` with these clips (any JSON value)."""
    path = root / dataset / f"{split}_training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(clips), encoding="utf-8")
    return path


def write_proassist(root: Path, samples: Iterable[dict], name: str = "cooking/prepared/train.jsonl") -> Path:
    """One sample a line."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
    return path


def make_root(root: Path) -> Path:
    """A data root with three datasets of one clip and 12 frames each: kitchen, toys (the public style), cooking.

    Recipe names: `kitchen`, `toys`, `cooking/prepared/train.jsonl`.
    """
    write_prospect(root, [prospect_clip()])
    write_frames(root / "kitchen/frames/tea.arrow", video(12))
    write_prospect(root, public_style_clip(), "toys")
    write_base64(root / "toys/frames/toy-01_cam_2.arrow", video(12))
    write_proassist(root, [proassist_clip()])
    write_base64(root / "cooking/frames/soup.arrow", video(12))
    return root
