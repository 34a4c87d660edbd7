"""Raw dialogs written for a test, built, and read again as training reads them."""

import copy
import json
from pathlib import Path
from typing import Any

from dst_dist.build.make import Built, build
from dst_dist.data.frames import write_frames
from dst_dist.data.reading import read_clips
from tests.data.handmade import jpeg

EXAMPLES = Path(__file__).parent / "examples"
NAMES = ("1-sequential", "2-skip-order-pause", "3-dirty", "4-only-said", "5-repeated", "6-two-of-each")
_VIDEO: dict[str, Any] = {
    "video_uid": "tea",
    "inferred_goal": "Make tea",
    "inferred_knowledge": "Make tea\n1. Boil the water.\n2. Pour milk into the cup.\n3. Stir with a spoon.",
    "video_labels": {},
    "conversations": [],
    "parsed_video_anns": {
        "dataset": "ego4d",
        "domain": "cooking",
        "all_step_descriptions": "[2.0s-8.0s] boil water\n[10.0s-14.0s] pour milk\n[15.0s-20.0s] stir\n",
        "duration": 30.0,
        "video_start_time": 0.0,
        "fps": None,
    },
}


def turn(role: str, time: float, content: str, labels: str | None = None) -> dict[str, Any]:
    label = "initiative|instruction" if role == "assistant" else ""
    return {"role": role, "time": time, "content": content, "labels": label if labels is None else labels}


def video(*turns: dict[str, Any], annotations: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A video about tea with one dialog; `annotations` change those of the video, None of them as a whole is JSON's."""
    made = copy.deepcopy(_VIDEO) | changes
    if made["parsed_video_anns"] is not None:
        made["parsed_video_anns"] |= annotations or {}
    if "conversations" not in changes:
        said = list(turns) or [turn("user", 2.0, "I want tea."), turn("assistant", 2.0, "Boil the water.")]
        made["conversations"] = [{"conversation": said, "user_type": "talk_some"}]
    return made


def write(path: Path, videos: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(videos))
    return path


def build_videos(folder: Path, *videos: dict[str, Any], **options: Any) -> Built:
    return build([write(folder / "train.json", list(videos))], folder / "root", **options)


def read_strictly(root: Path, built: Built) -> list[str]:
    """Read every built file with `data.strict`, next to frames that are there; returns what the reader counted."""
    last: dict[str, int] = {}
    for clip in (clip for clips in built.files.values() for clip in clips):
        last[clip["frames_file"]] = max(last.get(clip["frames_file"], 0), clip["end_frame_idx"])
    for name, number in last.items():
        if not (root / name).exists():
            write_frames(root / name, [jpeg(0)] * number)
    lines = []
    for name in built.files:
        index, _, report = read_clips(root, [name], "train", strict=True)
        assert len(index) == len(built.files[name])
        lines += report.lines()
    return lines
