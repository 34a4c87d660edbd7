"""ProAssist prepared dialogs: text turns between stretches of frames, and nothing about steps."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.formats.schema import FrameNumber, Raw, RawHead, Text, find_frames, read_head, read_turns
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import ClipLog


class _Frames(Raw):
    role: Literal["frames"]
    start: FrameNumber
    end: FrameNumber


class _System(Raw):
    role: Literal["system"]
    content: str


class _Spoken(Raw):
    role: Literal["user", "assistant"]
    content: Text


TURNS: dict[str, type[Raw]] = {"system": _System, "frames": _Frames, "user": _Spoken, "assistant": _Spoken}
Turns = Sequence[tuple[str, Any]]
"""(label, raw turn) pairs."""


def read_proassist(raw: dict, log: ClipLog, finder: FramesFinder) -> Clip | None:
    """One dialog, or None after its faults were logged."""
    head = read_head(RawHead, raw, log)
    turns = [pair for pair in read_turns(TURNS, raw, log) if pair[1] is not None]
    if head is not None:
        _check_frames(head, turns, log)
    path = find_frames(head, finder, log) if head is not None else None
    if log.failed:
        return None
    assert head is not None and path is not None
    rest = list(itertools.dropwhile(lambda pair: pair[1].role == "system", turns))
    return Clip(
        id=head.clip_id,
        dataset=head.dataset,
        domain=head.domain,
        video=path.relative_to(finder.root).as_posix(),
        frames_path=str(path),
        start_frame=head.start_frame_idx,
        end_frame=head.end_frame_idx,
        fps=head.fps,
        prompt="\n".join(turn.content for _, turn in turns[: len(turns) - len(rest)]),
        goal=head.metadata.task_goal or "",
        steps=(),
        initial_state={},
        turns=_anchor(head, rest, log),
        has_dst=False,
    )


def _check_frames(head: RawHead, turns: Turns, log: ClipLog) -> None:
    position = head.start_frame_idx
    for label, turn in turns:
        if turn.role != "frames":
            continue
        if not head.start_frame_idx <= turn.start < turn.end <= head.end_frame_idx:
            log.fault(
                f"frames [{turn.start}, {turn.end}) must be a part, not empty, of the clip's "
                f"[{head.start_frame_idx}, {head.end_frame_idx}); frames are counted from the start of the video",
                label,
            )
        elif turn.start < position:
            log.fault(f"frames [{turn.start}, {turn.end}) start before {position}, where the ones above end", label)
        else:
            _count_gap(position, turn.start, log, label)
            position = turn.end
    _count_gap(position, head.end_frame_idx, log, "after the last turn")


def _count_gap(position: int, start: int, log: ClipLog, label: str) -> None:
    if position < start:
        log.count("gaps between frames turns, their frames kept", label, f"frames [{position}, {start})")


def _anchor(head: RawHead, turns: Turns, log: ClipLog) -> tuple[Turn, ...]:
    """Text turns, each at the last frame of the frames turn before it."""
    anchored: list[Turn] = []
    frame = None
    for label, turn in turns:
        if turn.role == "frames":
            frame = turn.end - 1
            continue
        if frame is None:
            log.count("text turns before any frame, put after the clip's first one", label)
        place = head.start_frame_idx if frame is None else frame
        anchored.append(Turn(turn.role, turn.content, (), place, place))
    return tuple(anchored)
