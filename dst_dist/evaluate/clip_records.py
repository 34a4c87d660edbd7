"""What a stream wrote on each clip beside what should have been written, as JSON lines: the report's source."""

from collections.abc import Iterable, Iterator
from typing import Any

from dst_dist.data.clips import Clip
from dst_dist.data.state import Transition
from dst_dist.heads import HEAD_NAMES
from dst_dist.measure.events import match_transitions
from dst_dist.measure.replies import match_replies, window_of
from dst_dist.measure.similarity import Similarity
from dst_dist.measure.timeline import Timeline, Watched


def clip_record(
    watched: Watched,
    gold: Timeline,
    predicted: Timeline,
    thresholds: dict[str, float],
    tolerance_s: float,
    similarity: Similarity,
) -> dict[str, Any]:
    """One clip. Frames are absolute; a transition is `matched` with the same transition, one to one within the
    tolerance; `reply_matches` are pairs of replies by their places, as `reply/*` counts them."""
    clip = watched.clip
    transitions = match_transitions(gold, predicted, tolerance_s)
    gold_hits, predicted_hits = ({pair[side] for pair in transitions} for side in (0, 1))
    written = [event for event in watched.events if event.role == "DST_UPDATE"]
    said = [event for event in watched.events if event.role == "assistant"]
    return {
        **_about(clip),
        "gold": {
            "updates": [
                {"frame": _frame(clip, at_s), "transitions": changes}
                for (at_s, _), changes in zip(
                    gold.updates, _changes((c for _, c in gold.updates), gold_hits), strict=True
                )
            ],
            "replies": [{"frame": _frame(clip, at_s), "text": text} for at_s, text in gold.replies],
        },
        "predicted": {
            "updates": [
                {
                    "frame": event.frame,
                    "text": event.text,
                    "probability": event.probability,
                    "num_illegal": event.num_illegal,
                    "transitions": changes,
                }
                for event, changes in zip(
                    written, _changes((event.transitions for event in written), predicted_hits), strict=True
                )
            ],
            "replies": [{"frame": event.frame, "text": event.text, "probability": event.probability} for event in said],
        },
        "reply_matches": _reply_matches(clip, gold, predicted, similarity),
        "probabilities": {
            head: [round(float(value), 4) for value in watched.probabilities[:, column]]
            for column, head in enumerate(HEAD_NAMES)
        },
        "thresholds": thresholds,
        "tolerance_s": tolerance_s,
        "counts": {kind: number for kind, number in watched.counts.items() if number},
    }


def _about(clip: Clip) -> dict[str, Any]:
    names = (
        "id",
        "dataset",
        "domain",
        "video",
        "frames_path",
        "start_frame",
        "end_frame",
        "fps",
        "goal",
        "prompt",
        "initial_state",
    )
    user = [{"frame": turn.frame, "text": turn.text} for turn in clip.turns if turn.role == "user"]
    return {
        **{name: getattr(clip, name) for name in names},
        "steps": [{"id": step.id, "name": step.name} for step in clip.steps],
        "user": user,
    }


def _frame(clip: Clip, time_s: float) -> int:
    return round(time_s * clip.fps)


def _reply_matches(clip: Clip, gold: Timeline, predicted: Timeline, similarity: Similarity) -> list[dict[str, Any]]:
    return [
        {
            "gold": match.gold,
            "predicted": match.predicted,
            "similarity": round(match.similarity, 4),
            "correct": match.is_correct,
        }
        for match in match_replies(gold.replies, predicted.replies, window_of(clip.dataset), similarity)
    ]


def _changes(updates: Iterable[Iterable[Transition]], hits: set[int]) -> Iterator[list[dict[str, Any]]]:
    """The transitions of each update; `hits` are those matched, counted over all updates."""
    place = 0
    for changes in updates:
        found = []
        for change in changes:
            found.append({"id": change.id, "transition": change.transition, "matched": place in hits})
            place += 1
        yield found
