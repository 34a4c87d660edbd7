"""Prepares streamed clips for the page: each step's statuses over time, marks with their errors, curves."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from dst_dist.data.clips import CLOCK_ERROR_S
from dst_dist.data.state import NOT_STARTED, Transition, apply_transition
from dst_dist.report.run_view import SPLITS, read_json_lines
from dst_dist.report.thinning import rounded, thin
from dst_dist.run_folder import REPLACED, RunFolder

MOST_POINTS = 300
"""Points of a probability curve."""
Record = Mapping[str, Any]
Course = list[tuple[int, str]]
"""A step's statuses: (frame from which on, status), the first at the clip's start."""
Place = tuple[int, int]
"""A transition's place in a clip: (number of the update, place in the update)."""


def read_clip_records(run_folder: Path, most_bytes: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the clips of every split that was streamed, and notes about those left out.

    Args:
        most_bytes: about the bytes that all may take; if they take more, evenly spaced ones are kept.
    """
    clips, notes, run = [], [], RunFolder(run_folder)
    weights = run.weights_digest()
    for split in SPLITS:
        path = run.clips_file(split)
        records, num_bad = read_json_lines(path)
        current = [record for record in records if record.get("weights") == weights]
        if len(current) < len(records):
            notes.append(f"{len(records) - len(current)} clips of {path.name} are left out: {REPLACED}.")
        for record in current:
            try:
                clips.append(describe_clip(record, split))
            except LookupError:
                # Written by another version of the package.
                num_bad += 1
        if num_bad:
            notes.append(f"{num_bad} lines of {path.name} could not be read; evaluate again to write them anew.")
    stride = max(1, ceil(sum(len(json.dumps(clip, separators=(",", ":"))) for clip in clips) / most_bytes))
    if stride > 1:
        notes.append(f"Only one in {stride} of the {len(clips)} clips is here, evenly spaced, to keep this file small.")
    return clips[::stride], notes


def describe_clip(record: Record, split: str) -> dict[str, Any]:
    """Return the drawing of one streamed clip. Raises LookupError if the record lacks something."""
    first, end, fps = record["start_frame"], record["end_frame"], record["fps"]
    gold, predicted = record["gold"]["updates"], record["predicted"]["updates"]
    tolerance_frames = (record["tolerance_s"] + CLOCK_ERROR_S) * fps
    wrong_gold, wrong_predicted = pair_wrong(gold, predicted, tolerance_frames)
    gold_courses, _ = follow_states(first, record["initial_state"], gold)
    courses, illegal = follow_states(first, record["initial_state"], predicted)
    marks = [
        *({"lane": "user", "frame": turn["frame"], "text": turn["text"], "kinds": []} for turn in record["user"]),
        *_update_marks("gold_update", gold, "missed", wrong_gold, set()),
        *_update_marks("predicted_update", predicted, "false", wrong_predicted, illegal),
        *_reply_marks(record, tolerance_frames),
    ]
    declared = {step["id"] for step in record["steps"]}
    curves = {
        head: _curve(first, values)
        for head, values in record["probabilities"].items()
        if declared or head != "dst_update"
    }
    copied = ("id", "dataset", "domain", "video", "frames_path", "fps", "goal", "thresholds", "counts")
    return {key: record[key] for key in copied} | {
        "split": split,
        "start": first,
        "end": end,
        "unknown_steps": sorted((gold_courses.keys() | courses.keys()) - declared),
        "steps": [
            {**step, "gold": gold_courses[step["id"]], "predicted": courses[step["id"]]} for step in record["steps"]
        ],
        "marks": marks,
        "errors": _count_errors(marks),
        "curves": curves,
        "thinned": any(len(points) < end - first for points in curves.values()),
    }


def follow_states(
    first: int, initial: Mapping[str, str], updates: Sequence[Record]
) -> tuple[defaultdict[str, Course], set[Place]]:
    """Return each step's course under the updates, and the transitions that the dialog state did not allow."""
    state, illegal = dict(initial), set()
    courses = defaultdict(lambda: [(first, NOT_STARTED)], {step: [(first, status)] for step, status in state.items()})
    for number, update in enumerate(updates):
        for place, change in enumerate(update["transitions"]):
            step, before = change["id"], state.get(change["id"], NOT_STARTED)
            state, is_legal = apply_transition(state, Transition(step, change["transition"]))
            if not is_legal:
                illegal.add((number, place))
            elif state[step] != before:
                courses[step].append((update["frame"], state[step]))
    return courses, illegal


def pair_wrong(
    gold: Sequence[Record], predicted: Sequence[Record], tolerance_frames: float
) -> tuple[set[Place], set[Place]]:
    """Return the gold and the predicted transitions that are unmatched but near in time: one stands for the other.

    Nearest in time first, each in one pair.
    """
    unmatched = (
        {
            (number, place): update["frame"]
            for number, update in enumerate(updates)
            for place, change in enumerate(update["transitions"])
            if not change["matched"]
        }
        for updates in (gold, predicted)
    )
    return _pair_nearest(*unmatched, tolerance_frames)


def judge_replies(record: Record, tolerance_frames: float) -> dict[str, list[list[str]]]:
    """Return for each side the errors of each reply: none, `missed`, `false`, or `wrong_words` on both sides.

    Words are wrong in a match that is not correct, and in two unmatched replies that are near in time: the metrics
    match texts that have nothing in common only at the same instant.
    """
    errors = {
        side: [[kind] for _ in record[side]["replies"]] for side, kind in (("gold", "missed"), ("predicted", "false"))
    }
    unmatched = {side: {n: reply["frame"] for n, reply in enumerate(record[side]["replies"])} for side in errors}
    for match in record["reply_matches"]:
        for side in errors:
            errors[side][match[side]] = [] if match["correct"] else ["wrong_words"]
            del unmatched[side][match[side]]
    pairs = _pair_nearest(unmatched["gold"], unmatched["predicted"], tolerance_frames)
    for side, numbers in zip(errors, pairs, strict=True):
        for number in numbers:
            errors[side][number] = ["wrong_words"]
    return errors


def _pair_nearest(gold: Mapping[Any, int], predicted: Mapping[Any, int], tolerance_frames: float) -> tuple[set, set]:
    """Return the events of both sides that pair up, given their frames: nearest in time first, each in one pair."""
    pairs = sorted(
        (abs(frame - other_frame), event, other)
        for event, frame in gold.items()
        for other, other_frame in predicted.items()
        if abs(frame - other_frame) <= tolerance_frames
    )
    paired: tuple[set, set] = (set(), set())
    for _, event, other in pairs:
        if event not in paired[0] and other not in paired[1]:
            paired[0].add(event)
            paired[1].add(other)
    return paired


def _count_errors(marks: Iterable[Record]) -> Counter[str]:
    """Return the number of errors of each kind. A pair that is wrong on both sides counts once, as predicted."""
    return Counter(
        kind
        for mark in marks
        for part in mark.get("parts") or [mark]
        for kind in part["kinds"]
        if not (kind in ("wrong", "wrong_words") and mark["lane"].startswith("gold"))
    )


def _curve(first: int, values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return points (absolute frame, probability)."""
    points = [(first + offset, round(value, 3)) for offset, value in enumerate(values) if value is not None]
    return thin(points, MOST_POINTS)


def _update_marks(
    lane: str, updates: Sequence[Record], unmatched: str, wrong: set[Place], illegal: set[Place]
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
    for side, errors in judge_replies(record, tolerance_frames).items():
        marks = [
            {"lane": f"{side}_reply", "frame": reply["frame"], "text": reply["text"], "kinds": kinds}
            | _probability(reply)
            for reply, kinds in zip(record[side]["replies"], errors, strict=True)
        ]
        for match in record["reply_matches"]:
            marks[match[side]]["similarity"] = rounded(match["similarity"])
        yield from marks


def _probability(event: Record) -> dict[str, float]:
    return {"probability": rounded(event["probability"])} if "probability" in event else {}
