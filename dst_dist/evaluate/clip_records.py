"""Makes the records of streamed clips, gold and predicted, which the report reads as JSON lines."""

import itertools
from collections.abc import Iterable
from typing import Any

from dst_dist.data.state import Transition
from dst_dist.heads import HEAD_NAMES
from dst_dist.measure.events import match_transitions
from dst_dist.measure.replies import match_replies, window_of
from dst_dist.measure.similarity import Similarity
from dst_dist.measure.timeline import Watched, gold_timeline, predicted_timeline

Record = dict[str, Any]
COPIED = "id dataset domain video frames_path start_frame end_frame fps goal prompt initial_state"
"""Fields of a clip that its record repeats."""


def clip_record(watched: Watched, thresholds: dict[str, float], tolerance_s: float, similarity: Similarity) -> Record:
    """Return the record of one clip.

    Frames are absolute. A transition is `matched` with an equal one, one to one within the tolerance. `reply_matches`
    are pairs of replies by their positions, as `reply/*` counts them.
    """
    clip, gold, predicted = watched.clip, gold_timeline(watched.clip), predicted_timeline(watched)
    pairs = match_transitions(gold, predicted, tolerance_s)
    written = [event for event in watched.events if event.role == "DST_UPDATE"]
    gold_changes = _changes((changes for _, changes in gold.updates), {row for row, _ in pairs})
    predicted_changes = _changes((event.transitions for event in written), {column for _, column in pairs})
    return {
        **_fields(clip, COPIED),
        "steps": [{"id": step.id, "name": step.name} for step in clip.steps],
        "user": [{"frame": turn.frame, "text": turn.text} for turn in clip.turns if turn.role == "user"],
        "gold": {
            "updates": [
                {"frame": round(time_s * clip.fps), "transitions": changes}
                for (time_s, _), changes in zip(gold.updates, gold_changes, strict=True)
            ],
            "replies": [{"frame": round(time_s * clip.fps), "text": text} for time_s, text in gold.replies],
        },
        "predicted": {
            "updates": [
                _fields(event, "frame text probability num_illegal") | {"transitions": changes}
                for event, changes in zip(written, predicted_changes, strict=True)
            ],
            "replies": [
                _fields(event, "frame text probability") for event in watched.events if event.role == "assistant"
            ],
        },
        "reply_matches": [
            _fields(match, "gold predicted") | {"similarity": round(match.similarity, 4), "correct": match.is_correct}
            for match in match_replies(gold.replies, predicted.replies, window_of(clip.dataset), similarity)
        ],
        "probabilities": {
            head: [round(float(value), 4) for value in watched.probabilities[:, column]]
            for column, head in enumerate(HEAD_NAMES)
        },
        "thresholds": thresholds,
        "tolerance_s": tolerance_s,
        "counts": {kind: number for kind, number in watched.counts.items() if number},
    }


def _fields(item: Any, names: str) -> Record:
    return {name: getattr(item, name) for name in names.split()}


def _changes(updates: Iterable[Iterable[Transition]], matched: set[int]) -> list[list[Record]]:
    """Return the transitions of each update; `matched` are positions counted over all updates."""
    positions = itertools.count()
    return [
        [{"id": one.id, "transition": one.transition, "matched": next(positions) in matched} for one in changes]
        for changes in updates
    ]
