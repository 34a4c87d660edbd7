"""Streamed clips as the page draws them: the course of each step, marks with what is wrong with them, curves."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from dst_dist.data.clips import CLOCK_ERROR_S
from dst_dist.data.state import NOT_STARTED, Transition, apply_transition
from dst_dist.report.run_view import SPLITS, read_json_lines
from dst_dist.report.thinning import rounded, thin
from dst_dist.run_folder import RunFolder

MOST_POINTS = 300
"""Of each probability curve."""
Record = Mapping[str, Any]
Course = list[tuple[int, str]]
"""A step's statuses: (frame from which on, status), the first at the clip's start."""


def read_clip_records(run_folder: Path, most_bytes: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The clips of every split that was streamed, and what to say of those left out.

    Args:
        most_bytes: about as much as they may take; of more, evenly spaced ones are kept.
    """
    clips, notes = [], []
    for split in SPLITS:
        path = RunFolder(run_folder).clips_file(split)
        records, num_bad = read_json_lines(path) if path.is_file() else ([], 0)
        for record in records:
            try:
                clips.append(describe_clip(record, split))
            except (LookupError, TypeError, ValueError, AttributeError):
                num_bad += 1
        if num_bad:
            notes.append(f"{num_bad} lines of {path.name} could not be read; evaluate again to write them anew.")
    stride = ceil(sum(len(json.dumps(clip, separators=(",", ":"))) for clip in clips) / most_bytes) if clips else 1
    if stride > 1:
        notes.append(f"Only one in {stride} of the {len(clips)} clips is here, evenly spaced, to keep this file small.")
    return clips[::stride], notes


def describe_clip(record: Record, split: str) -> dict[str, Any]:
    """One clip of the page. Raises LookupError, TypeError, ValueError or AttributeError of a record that is not one."""
    steps = [step["id"] for step in record["steps"]]
    first, end = int(record["start_frame"]), int(record["end_frame"])
    if end <= first or not record["fps"] > 0:
        raise ValueError("a clip has frames, and frames a second")
    gold, predicted = record["gold"], record["predicted"]
    tolerance_frames = (record["tolerance_s"] + CLOCK_ERROR_S) * record["fps"]
    wrong = pair_wrong(gold["updates"], predicted["updates"], tolerance_frames)
    gold_courses, _ = follow_states(first, record["initial_state"], gold["updates"])
    courses, illegal = follow_states(first, record["initial_state"], predicted["updates"])
    marks = [
        *({"lane": "user", "frame": turn["frame"], "text": turn["text"], "kinds": []} for turn in record["user"]),
        *_update_marks("gold_update", gold["updates"], "missed", wrong[0], set()),
        *_update_marks("predicted_update", predicted["updates"], "false", wrong[1], illegal),
        *_reply_marks(record, tolerance_frames),
    ]
    curves = {
        head: curve(first, values) for head, values in record["probabilities"].items() if steps or head != "dst_update"
    }
    never = [(first, NOT_STARTED)]
    return {
        **{
            key: record[key] for key in ("id", "dataset", "domain", "video", "frames_path", "fps", "goal", "thresholds")
        },
        "split": split,
        "start": first,
        "end": end,
        "steps": [
            {
                "id": step["id"],
                "name": step["name"],
                "gold": gold_courses.get(step["id"], never),
                "predicted": courses.get(step["id"], never),
            }
            for step in record["steps"]
        ],
        "unknown_steps": sorted((gold_courses.keys() | courses.keys()) - set(steps)),
        "marks": marks,
        "errors": count_errors(marks),
        "curves": curves,
        "thinned": any(len(points) < end - first for points in curves.values()),
        "counts": record.get("counts") or {},
    }


def follow_states(
    first: int, initial: Mapping[str, str], updates: Sequence[Record]
) -> tuple[dict[str, Course], set[tuple[int, int]]]:
    """Each step's course under the updates; and the transitions, as (update, place in it), that the state did not allow."""
    state, illegal = dict(initial), set()
    courses: dict[str, Course] = {step: [(first, status)] for step, status in state.items()}
    for number, update in enumerate(updates):
        for place, change in enumerate(update["transitions"]):
            before = state.get(change["id"], NOT_STARTED)
            state, legal = apply_transition(state, Transition(change["id"], change["transition"]))
            if not legal:
                illegal.add((number, place))
            elif state[change["id"]] != before:
                courses.setdefault(change["id"], [(first, NOT_STARTED)]).append((update["frame"], state[change["id"]]))
    return courses, illegal


def pair_wrong(gold: Sequence[Record], predicted: Sequence[Record], tolerance_frames: float) -> tuple[set, set]:
    """Transitions that stand at the time of another one that should be there: neither is matched, and they pair up.

    Returns:
        Of both sides, places (update, place in it); nearest in time first, each in one pair.
    """
    return _pair_nearest(_unmatched(gold), _unmatched(predicted), tolerance_frames)


def judge_replies(record: Record, tolerance_frames: float) -> dict[str, list[list[str]]]:
    """By side, what is wrong with each reply: nothing, `missed`, `false`, or `wrong_words` on both sides.

    Words are wrong in a match that is not correct, and in two replies without a match that stand at the same time:
    texts that have nothing in common are matched at the same instant alone.
    """
    replies = {side: record[side]["replies"] for side in ("gold", "predicted")}
    kinds = {side: [[alone] for _ in replies[side]] for side, alone in (("gold", "missed"), ("predicted", "false"))}
    for match in record["reply_matches"]:
        for side, of_side in kinds.items():
            of_side[match[side]] = [] if match["correct"] else ["wrong_words"]
    apart = (
        {
            place: replies[side][place]["frame"]
            for place, kind in enumerate(kinds[side])
            if kind in (["missed"], ["false"])
        }
        for side in kinds
    )
    for side, places in zip(kinds, _pair_nearest(*apart, tolerance_frames), strict=True):
        for place in places:
            kinds[side][place] = ["wrong_words"]
    return kinds


def _pair_nearest(ours: Mapping[Any, int], theirs: Mapping[Any, int], tolerance_frames: float) -> tuple[set, set]:
    """The places of both sides that pair up, given their frames: nearest in time first, each in one pair."""
    pairs = sorted(
        (abs(frame - other_frame), place, other)
        for place, frame in ours.items()
        for other, other_frame in theirs.items()
        if abs(frame - other_frame) <= tolerance_frames
    )
    taken: tuple[set, set] = (set(), set())
    for _, place, other in pairs:
        if place not in taken[0] and other not in taken[1]:
            taken[0].add(place)
            taken[1].add(other)
    return taken


def count_errors(marks: Iterable[Record]) -> Counter[str]:
    """By kind: transitions, updates that cannot be read, and replies. What is wrong counts once, where it was written."""
    return Counter(
        kind
        for mark in marks
        for part in mark.get("parts") or [mark]
        for kind in part["kinds"]
        if not (kind in ("wrong", "wrong_words") and mark["lane"].startswith("gold"))
    )


def curve(first: int, values: Sequence[float]) -> list[tuple[float, float]]:
    """Points (absolute frame, probability)."""
    return thin(
        [(first + offset, round(value, 3)) for offset, value in enumerate(values) if value is not None], MOST_POINTS
    )


def _unmatched(updates: Sequence[Record]) -> dict[tuple[int, int], int]:
    """Place -> frame."""
    return {
        (number, place): update["frame"]
        for number, update in enumerate(updates)
        for place, change in enumerate(update["transitions"])
        if not change["matched"]
    }


def _update_marks(
    lane: str, updates: Sequence[Record], unmatched: str, wrong: set, illegal: set
) -> Iterable[dict[str, Any]]:
    for number, update in enumerate(updates):
        parts = []
        for place, change in enumerate(update["transitions"]):
            kinds = [] if change["matched"] else ["wrong" if (number, place) in wrong else unmatched]
            kinds += ["illegal"] if (number, place) in illegal else []
            parts.append({"text": f"{change['id']} {change['transition']}", "kinds": kinds})
        kinds = sorted({kind for part in parts for kind in part["kinds"]}) if parts else ["unreadable"]
        text = update.get("text") or ", ".join(part["text"] for part in parts)
        several = {"parts": parts} if len(parts) > 1 else {}
        yield {"lane": lane, "frame": update["frame"], "text": text, "kinds": kinds} | several | _probability(update)


def _reply_marks(record: Record, tolerance_frames: float) -> Iterable[dict[str, Any]]:
    for side, kinds in judge_replies(record, tolerance_frames).items():
        marks = [
            {"lane": f"{side}_reply", "frame": reply["frame"], "text": reply["text"], "kinds": wrong}
            | _probability(reply)
            for reply, wrong in zip(record[side]["replies"], kinds, strict=True)
        ]
        for match in record["reply_matches"]:
            marks[match[side]]["similarity"] = rounded(match["similarity"])
        yield from marks


def _probability(event: Record) -> dict[str, float]:
    return {} if event.get("probability") is None else {"probability": rounded(event["probability"])}
