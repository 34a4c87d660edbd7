"""PROSPECT DST clips: turns with frame ranges, declared steps, and updates of the dialog state."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dst_dist.data.clips import Clip, Step, Turn
from dst_dist.data.formats.schema import (
    FrameNumber,
    Name,
    Raw,
    RawHead,
    Text,
    find_frames,
    read_head,
    read_turns,
    shown,
    validate,
)
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import ClipLog
from dst_dist.data.state import (
    NOT_STARTED,
    STATUSES,
    TRANSITIONS,
    Transition,
    apply_transition,
    format_update,
    without_not_started,
)

Status = Literal[STATUSES]
State = dict[str, Status]


class _Head(RawHead):
    inferred_goal: str
    initial_dst_state: State | None = None


class _Step(Raw):
    id: Name
    name: Text
    start_ts: float | None = None
    end_ts: float | None = None


class _Transition(Raw):
    id: Name
    transition: Literal[tuple(TRANSITIONS)]


def _parse_update(content: Any) -> Any:
    if not isinstance(content, str):
        return content
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("must be a list of transitions, or that list as a JSON string") from None


class _System(Raw):
    role: Literal["system"]
    content: str
    start_frame: int | None = None
    end_frame: int | None = None
    dst_state: State | None = None


class _Spoken(Raw):
    role: Literal["user", "assistant"]
    content: Text
    start_frame: FrameNumber
    end_frame: FrameNumber
    dst_state: State | None = None


class _Update(Raw):
    role: Literal["DST_UPDATE"]
    content: Annotated[list[_Transition], Field(min_length=1), BeforeValidator(_parse_update)]
    start_frame: FrameNumber
    end_frame: FrameNumber
    dst_state: State | None = None

    @property
    def transitions(self) -> tuple[Transition, ...]:
        return tuple(Transition(change.id, change.transition) for change in self.content)


TURNS: dict[str, type[Raw]] = {"system": _System, "user": _Spoken, "assistant": _Spoken, "DST_UPDATE": _Update}
Turns = Sequence[tuple[str, Any]]
"""(label, raw turn) pairs."""


def read_prospect(raw: dict, log: ClipLog, finder: FramesFinder, strict: bool) -> Clip | None:
    """One clip, or None after its faults were logged.

    Args:
        strict: a transition that the step's status does not allow is a fault; else it is only counted.
    """
    head, steps, pairs = read_head(_Head, raw, log), _read_steps(raw, log), read_turns(TURNS, raw, log)
    turns = [pair for pair in pairs if pair[1] is not None]
    if head is not None:
        _check_ranges(head, turns, log)
    if head is not None and len(turns) == len(pairs):
        _replay(head, turns, log, strict)
    if steps is not None:
        _check_declared(head, steps, turns, log)
    path = find_frames(head, finder, log) if head is not None else None
    if log.failed:
        return None
    assert head is not None and steps is not None and path is not None
    _count_json_updates(raw, turns, log)
    spoken = list(itertools.dropwhile(lambda pair: pair[1].role == "system", turns))
    return Clip(
        id=head.clip_id,
        dataset=head.dataset,
        domain=head.domain,
        video=path.relative_to(finder.root).as_posix(),
        frames_path=str(path),
        start_frame=head.start_frame_idx,
        end_frame=head.end_frame_idx,
        fps=head.fps,
        prompt="\n".join(turn.content for _, turn in turns[: len(turns) - len(spoken)]),
        goal=head.inferred_goal,
        steps=tuple(steps),
        initial_state=without_not_started(_initial_state(head, turns)),
        turns=_anchor(head, spoken, log),
        has_dst=True,
    )


def _read_steps(raw: dict, log: ClipLog) -> list[Step] | None:
    written = raw["dst"]
    if not isinstance(written, list):
        log.fault(f"`dst` must be the list of the task's steps, found {shown(written)}")
        return None
    steps = [validate(_Step, step, log, place=f"dst[{number}]") for number, step in enumerate(written)]
    if None in steps:
        return None
    twice = [step for step, number in Counter(step.id for step in steps).items() if number > 1]
    if twice:
        log.fault(f"`dst` declares {', '.join(map(shown, twice))} more than once; give every step its own id")
    if not steps:
        log.count("clips that declare no steps")
    return [Step(step.id, step.name, step.start_ts, step.end_ts) for step in steps]


def _check_ranges(head: _Head, turns: Turns, log: ClipLog) -> None:
    previous = head.start_frame_idx
    for label, turn in turns:
        if turn.role == "system":
            continue
        decision = turn.end_frame - 1
        if not head.start_frame_idx <= turn.start_frame < turn.end_frame <= head.end_frame_idx:
            log.fault(
                f"frames [{turn.start_frame}, {turn.end_frame}) must be a part, not empty, of the clip's "
                f"[{head.start_frame_idx}, {head.end_frame_idx})",
                label,
            )
        elif decision < previous:
            log.fault(f"decision frame {decision} lies before the one above it, {previous}; sort turns by time", label)
        else:
            previous = decision


def _check_declared(head: _Head | None, steps: list[Step], turns: Turns, log: ClipLog) -> None:
    declared = {step.id for step in steps}

    def check(ids: Iterable[str], place: str, label: str = "") -> None:
        unknown = [step for step in ids if step not in declared]
        if unknown:
            log.fault(f"`{place}` names {', '.join(map(shown, unknown))}, which `dst` does not declare", label)

    check((head and head.initial_dst_state) or {}, "initial_dst_state")
    for label, turn in turns:
        check(turn.dst_state or {}, "dst_state", label)
        if turn.role == "DST_UPDATE":
            check([change.id for change in turn.content], "content", label)


def _initial_state(head: _Head, turns: Turns) -> dict[str, str]:
    """Given, or else of each step what the first `dst_state` says that names it, if no update changed it before.

    A `dst_state` is the state before its turn and names only steps seen so far: what it does not name yet may have any
    status, and keeps it until it is named or changed.
    """
    if head.initial_dst_state is not None:
        return dict(head.initial_dst_state)
    state: dict[str, str] = {}
    changed: set[str] = set()
    for _, turn in turns:
        state = {step: status for step, status in (turn.dst_state or {}).items() if step not in changed} | state
        if turn.role == "DST_UPDATE":
            changed |= {change.id for change in turn.content}
    return state


def _replay(head: _Head, turns: Turns, log: ClipLog, strict: bool) -> None:
    """Follow the dialog state through the clip, looking for contradictions and illegal transitions."""
    state, seen = _initial_state(head, turns), set(head.initial_dst_state or {})
    for label, turn in turns:
        if turn.dst_state is not None:
            seen |= turn.dst_state.keys()
            if any(turn.dst_state.get(step, NOT_STARTED) != state.get(step, NOT_STARTED) for step in seen):
                log.count("dst_state entries that contradict the transitions before them", label)
        if turn.role != "DST_UPDATE":
            continue
        seen |= {change.id for change in turn.content}
        for change in turn.transitions:
            status = state.get(change.id, NOT_STARTED)
            state, legal = apply_transition(state, change)
            if not legal and strict:
                log.fault(f"{change.transition} of {change.id}, which is {status}, is not allowed (data.strict)", label)
            elif not legal:
                detail = f"{change.transition} of {change.id}, which is {status}"
                log.count("transitions that the step's status does not allow, state left alone", label, detail)


def _count_json_updates(raw: dict, turns: Turns, log: ClipLog) -> None:
    for (label, turn), written in zip(turns, raw["conversation"], strict=True):
        if turn.role == "DST_UPDATE" and isinstance(written["content"], str):
            log.count("DST_UPDATE turns with their content as a JSON string", label)


def _anchor(head: _Head, turns: Turns, log: ClipLog) -> tuple[Turn, ...]:
    """Turns with their frames; a system turn whose own frames cannot be used goes to the turn before it."""
    anchored: list[Turn] = []
    for number, (label, turn) in enumerate(turns):
        if turn.role == "DST_UPDATE":
            text, transitions = format_update(turn.transitions), turn.transitions
        else:
            text, transitions = turn.content, ()
        first, end = turn.start_frame, turn.end_frame
        if turn.role == "system":
            before = anchored[-1].frame
            after = next((later.end_frame - 1 for _, later in turns[number:] if later.role != "system"), None)
            if not _usable(head, first, end) or end <= before or (after is not None and end - 1 > after):
                first, end = before, before + 1
                log.count("system turns without usable frames, put after the turn before them", label)
        anchored.append(Turn(turn.role, text, transitions, first, end - 1))
    return tuple(anchored)


def _usable(head: _Head, first: int | None, end: int | None) -> bool:
    return first is not None and end is not None and head.start_frame_idx <= first < end <= head.end_frame_idx
