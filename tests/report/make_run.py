"""A small hand-written run folder with training, evaluations and streamed clips that have every kind of error."""

import json
import re
from pathlib import Path
from typing import Any

from dst_dist.data.frames import write_frames
from tests.data.handmade import video

NASTY = (
    "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">{{data}}"
    + "w" * 120
)
THRESHOLDS = {"dst_update": 0.5, "speaking": 0.25}


def change(step: str, transition: str, matched: bool = True) -> dict[str, Any]:
    return {"id": step, "transition": transition, "matched": matched}


def written(frame: int, *changes: dict[str, Any], text: str = "[...]") -> dict[str, Any]:
    return {"frame": frame, "text": text, "probability": 0.75, "num_illegal": 0, "transitions": list(changes)}


def answer(gold: int, predicted: int, similarity: float) -> dict[str, Any]:
    return {"gold": gold, "predicted": predicted, "similarity": similarity, "correct": similarity > 0.5}


def clip(name: str, **changes: Any) -> dict[str, Any]:
    """Return a clip without errors: frames 100 to 119 at two a second; S1 is started at 104 and completed at 110."""
    updates = [
        {"frame": 104, "transitions": [change("S1", "start")]},
        {"frame": 110, "transitions": [change("S1", "complete")]},
    ]
    return {
        "id": name,
        "dataset": "kitchen",
        "domain": "cooking",
        "video": f"kitchen/frames/{name}.arrow",
        "frames_path": "/nowhere.arrow",
        "start_frame": 100,
        "end_frame": 120,
        "fps": 2.0,
        "goal": "Make tea",
        "prompt": "You help.",
        "steps": [{"id": "S1", "name": "Boil water"}, {"id": "S2", "name": "Pour it"}],
        "initial_state": {},
        "user": [{"frame": 100, "text": "I want tea."}],
        "gold": {"updates": updates, "replies": [{"frame": 104, "text": "Good."}]},
        "predicted": {
            "updates": [written(104, change("S1", "start")), written(111, change("S1", "complete"))],
            "replies": [{"frame": 105, "text": "Good!", "probability": 0.5}],
        },
        "reply_matches": [answer(0, 0, 1.0)],
        "probabilities": {"dst_update": [0.0, 1.0] * 10, "speaking": [0.125] * 20},
        "thresholds": THRESHOLDS,
        "tolerance_s": 2.0,
        "counts": {},
    } | changes


def clip_with_errors(name: str) -> dict[str, Any]:
    """Return a clip with a missed reply at 102, a false one at 117, wrong words at 108, and these updates:

    104  S1 start is written as S2 start: wrong transition
    106  a text that is no JSON: unreadable
    110  S1 complete is written, but S1 is not started: matched and illegal
    114  S2 start is missed: nothing is written within 2 s
    119  S1 resume is written: false, and illegal as well
    """
    gold = [
        {"frame": 104, "transitions": [change("S1", "start", False)]},
        {"frame": 110, "transitions": [change("S1", "complete")]},
        {"frame": 114, "transitions": [change("S2", "start", False)]},
    ]
    predicted = [
        written(104, change("S2", "start", False)),
        written(106, text="[{"),
        written(110, change("S1", "complete")),
        written(119, change("S1", "resume", False)),
    ]
    return clip(
        name,
        goal="Repair a bicycle",
        gold={
            "updates": gold,
            "replies": [{"frame": 102, "text": "Hello."}, {"frame": 108, "text": "Stop! Turn it off."}],
        },
        predicted={
            "updates": predicted,
            "replies": [
                {"frame": 108, "text": "Well done.", "probability": 0.5},
                {"frame": 117, "text": "Bye.", "probability": 0.5},
            ],
        },
        reply_matches=[answer(1, 0, 0.125)],
        counts={"updates that cannot be read": 1},
    )


def clip_with_nasty_text(name: str) -> dict[str, Any]:
    quiet = {"updates": [], "replies": [{"frame": 103, "text": NASTY}]}
    return clip(
        name,
        goal=NASTY,
        steps=[{"id": "S1", "name": NASTY}],
        user=[{"frame": 101, "text": NASTY}],
        domain=None,
        gold=quiet,
        predicted={"updates": [], "replies": [quiet["replies"][0] | {"probability": 0.5}]},
    )


def teacher_forced_result() -> dict[str, Any]:
    scores = {
        "dst_update/average_precision": 0.75,
        "dst_update/average_precision/ci95": [0.625, 0.875],
        "dst_update/threshold": 0.5,
    }
    curve = {
        "threshold": [0.0, 0.5, 1.0],
        "precision": [0.25, 0.75, None],
        "recall": [1.0, 0.5, 0.0],
        "f1": [0.4, 0.6, 0.0],
        "false_per_minute": [30.0, 2.0, 0.0],
    }
    return scores | {
        "update/exact_match": 0.5,
        "num_videos": 3,
        "baselines": {"chance": {"dst_update/average_precision": 0.125}},
        "by_dataset": {"kitchen": {"dst_update/average_precision": 0.6875}},
        "curves": {"dst_update": curve},
    }


def make_run(folder: Path, num_steps: int = 3) -> Path:
    """Write a run with three streamed clips: one right (with frames), one with errors, one with markup as its text."""
    trained(folder, num_steps)
    frames = folder.parent / "frames.arrow"
    write_frames(frames, video(120))
    write_evaluation(folder, "test-teacher_forced", teacher_forced_result())
    streamed = {
        "transition/f1": 0.5,
        "transition/missed": 2.0,
        "num_videos": 3,
        "baselines": {"never": {"transition/f1": 0.0}},
    }
    write_evaluation(folder, "test-streaming", streamed)
    write_clips(
        folder, [clip("tea", frames_path=str(frames)), clip_with_errors("bicycle"), clip_with_nasty_text("nasty")]
    )
    return folder


def trained(folder: Path, num_steps: int = 3) -> Path:
    """Write the folder as training leaves it: a line a step, validation at the last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(
        "model: {name_or_path: tiny}\nfinetune: {mode: lora}\ndata: {train: [kitchen], val: [], test: [{kitchen: 2}]}\n"
    )
    (folder / "status.json").write_text(json.dumps({"code": 0, "reason": "done", "step": num_steps}))
    rows = [
        {"step": step, "split": "train", "loss": 8.0 / step, "loss/lm": 4.0 / step, "num_tokens": 9}
        for step in range(1, num_steps + 1)
    ]
    rows.append({"step": num_steps, "split": "val", "loss": 2.0, "dst_update/f1": 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_evaluation(folder: Path, name: str, result: dict[str, Any]) -> None:
    (folder / "evaluation").mkdir(exist_ok=True)
    (folder / "evaluation" / f"{name}.json").write_text(json.dumps(result))


def write_clips(folder: Path, clips: list[dict[str, Any]], split: str = "test") -> None:
    (folder / "evaluation").mkdir(exist_ok=True)
    (folder / "evaluation" / f"{split}-streaming-clips.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in clips)
    )


def data_of(page: Path) -> dict:
    """Return the data in a written report."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1]
    )
