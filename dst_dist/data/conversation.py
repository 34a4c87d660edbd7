"""Puts a clip's turns in the order of training and labels its decision positions.

A clip becomes a list of `Group`s in time order, one for each frame: the frame, then the turns anchored there.
Lengths, splits and samples are all computed from groups.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.state import format_update
from dst_dist.heads import HEAD_NAMES, HEAD_ROLES, HEADS, Head

IGNORE = -100
ANSWER_WINDOW_FRAMES = 2
"""A turn at most this many frames after a user turn answers it, so the user turn's end is no negative."""

Decision = dict[str, int]
"""Label of one decision position by the head's name: 1, 0, or IGNORE."""


# A bound method of C code: a clip has hundreds of groups, and each calls it.
_no_outcome: Callable[[], Decision] = dict.fromkeys(HEAD_NAMES, 0).copy


@dataclass(slots=True)
class Group:
    """A frame (absolute index) with its decision, and the turns right after it; each user turn has a decision too."""

    frame: int
    decision: Decision = field(default_factory=_no_outcome)
    turns: list[Turn] = field(default_factory=list)
    user_decisions: list[Decision] = field(default_factory=list)


def arrange(clip: Clip, frames: str, positive_frames: str, counts: Counter | None = None) -> list[Group]:
    """Return a clip as groups, with its turns in order and its decisions labelled.

    Args:
        frames: `continuous` or `event` (recipe `data.frames`).
        positive_frames: `last` or `all` (recipe `labels.positive_frames`).
        counts: where joined and reordered turns are counted.
    """
    groups = [Group(frame) for frame in frame_list(clip, frames)]
    by_frame = {group.frame: group for group in groups}
    for turn in clip.turns:
        by_frame[turn.frame].turns.append(turn)
    with_turns = [group for group in groups if group.turns]
    for group in with_turns:
        group.turns = _order_outcomes(group.turns, counts if counts is not None else Counter())
        group.user_decisions = [_no_outcome() for turn in group.turns if turn.role == "user"]
    for head in HEADS:
        _label_head(with_turns, head)
        if positive_frames == "all":
            _label_ranges(by_frame, with_turns, head)
        if head.needs_steps and not clip.steps:
            for decision in (d for group in groups for d in (group.decision, *group.user_decisions)):
                decision[head.name] = IGNORE
    return groups


def frame_list(clip: Clip, frames: str) -> list[int]:
    """Return the absolute frames of a clip that the model sees (recipe `data.frames`), ascending."""
    if frames == "continuous":
        return list(range(clip.start_frame, clip.end_frame))
    return sorted({frame for turn in clip.turns for frame in range(turn.first_frame, turn.frame + 1)})


def _order_outcomes(turns: list[Turn], counts: Counter) -> list[Turn]:
    """Return the turns with at most one DST turn, then one reply, between user and system turns."""
    ordered: list[Turn] = []
    for is_outcome, group in itertools.groupby(turns, lambda turn: turn.role in HEAD_ROLES):
        members = list(group)
        if is_outcome:
            updates = [turn for turn in members if turn.role == "DST_UPDATE"]
            replies = [turn for turn in members if turn.role == "assistant"]
            if members != updates + replies:
                counts["outcomes reordered: the update before the reply"] += 1
            members = _join(updates, "DST_UPDATE turns", counts) + _join(replies, "replies", counts)
        ordered += members
    return ordered


def _join(turns: list[Turn], kind: str, counts: Counter) -> list[Turn]:
    if len(turns) < 2:
        return turns
    counts[f"{kind} joined with another of their frame"] += len(turns) - 1
    transitions = tuple(transition for turn in turns for transition in turn.transitions)
    text = format_update(transitions) if transitions else " ".join(turn.text for turn in turns)
    first_frame = min(turn.first_frame for turn in turns)
    return [replace(turns[-1], text=text, transitions=transitions, first_frame=first_frame)]


def _label_head(groups: list[Group], head: Head) -> None:
    """Label the decisions of the groups that have turns; those of the others stay negatives.

    A turn behind a system turn of its frame is not the outcome of a decision: when the head was read, the system turn
    was not there yet. The position has no label there.
    """
    event_frames = {group.frame for group in groups for turn in group.turns if turn.role == head.role}
    for group in groups:
        outcomes = _outcome_roles(group.turns)
        happens = [head.role in outcome for outcome in outcomes]
        is_positive = [head.role in itertools.takewhile("system".__ne__, outcome) for outcome in outcomes]
        is_interrupted = len(outcomes) > 1 or "system" in outcomes[0]
        group.decision[head.name] = 1 if is_positive[0] else IGNORE if is_interrupted else 0
        window = range(group.frame + 1, group.frame + 1 + ANSWER_WINDOW_FRAMES)
        happens_soon = any(frame in event_frames for frame in window)
        for place, decision in enumerate(group.user_decisions, start=1):
            is_answered = happens_soon or any(happens[place:])
            decision[head.name] = 1 if is_positive[place] else IGNORE if is_answered else 0


def _outcome_roles(turns: Sequence[Turn]) -> list[list[str]]:
    """Return the roles of the turns after the frame, and after each user turn, up to the next decision position."""
    outcomes: list[list[str]] = [[]]
    for turn in turns:
        if turn.role == "user":
            outcomes.append([])
        else:
            outcomes[-1].append(turn.role)
    return outcomes


def _label_ranges(by_frame: dict[int, Group], groups: list[Group], head: Head) -> None:
    """Make every frame of a turn's range a positive, also where it has another label.

    Frames of turns that are no outcome (see `_label_head`) are ignored, unless they are another turn's.
    """
    labelled: list[tuple[int, Turn]] = []
    for group in groups:
        label = 1
        for turn in group.turns:
            if turn.role == head.role:
                labelled.append((label, turn))
            label = {"user": 1, "system": IGNORE}.get(turn.role, label)
    for label, turn in sorted(labelled, key=itemgetter(0)):
        for frame in range(turn.first_frame, turn.frame + 1):
            by_frame[frame].decision[head.name] = label
