"""PROSPECT DST clips: turns with frame ranges, declared steps, and updates of the dialog state."""

import json
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dst_dist.data import state as states
from dst_dist.data.clips import Clip, Step, Turn
from dst_dist.data.formats import schema
from dst_dist.data.formats.agreement import check_lengths, goal_of, settle_frames
from dst_dist.data.formats.initial_state import initial_state
from dst_dist.data.formats.prompt_words import PromptWords
from dst_dist.data.formats.schema import FrameNumber, Name, RawTurn, Text, Turns, shown
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import ClipLog
from dst_dist.data.state import NOT_STARTED, STATUSES, TRANSITIONS, Transition

CONTRADICTING = "dst_state entries that contradict the transitions before them"
NOT_ALLOWED = "transitions that the step's status does not allow, state left alone"

State = dict[str, Literal[STATUSES]]


def _as_text(written: Any) -> str:
    return written if isinstance(written, str) else json.dumps(written)


class _Head(schema.RawHead):
    inferred_goal: str
    inferred_knowledge: Annotated[str, BeforeValidator(_as_text)] = ""
    initial_dst_state: State | None = None


class _Step(schema.Raw):
    id: Name
    name: Text
    start_ts: float | None = None
    end_ts: float | None = None


class _Transition(schema.Raw):
    id: Name
    transition: Literal[tuple(TRANSITIONS)]


def _parse_update(content: Any) -> Any:
    if not isinstance(content, str):
        return content
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("must be a list of transitions, or that list as a JSON string") from None


class _System(RawTurn):
    content: str
    start_frame: int | None = None
    end_frame: int | None = None
    dst_state: State | None = None


class _Spoken(RawTurn):
    content: Text
    start_frame: FrameNumber
    end_frame: FrameNumber
    dst_state: State | None = None


class _Update(_Spoken):
    content: Annotated[list[_Transition], Field(min_length=1), BeforeValidator(_parse_update)]

    @cached_property
    def transitions(self) -> tuple[Transition, ...]:
        return tuple(Transition(change.id, change.transition) for change in self.content)


TURNS = {"system": _System, "user": _Spoken, "assistant": _Spoken, "DST_UPDATE": _Update}


def read_prospect(raw: dict, log: ClipLog, finder: FramesFinder) -> Clip | None:
    """Return one clip, or None after its faults were logged."""
    head, steps = schema.validate(_Head, raw, log), _read_steps(raw, log)
    turns, is_whole = schema.read_turns(TURNS, raw, log)
    if steps is not None:
        _check_declared(head, steps, turns, log)
    if head is None:
        return None
    turns = settle_frames(head, turns, log)
    _check_ranges(head, turns, log)
    check_lengths(head, head.end_frame_idx - head.start_frame_idx, log)
    prompt, spoken = schema.split_prompt(turns)
    words = PromptWords(prompt, steps or ())
    goal = goal_of(head, [prompt, head.inferred_knowledge, *schema.spoken_texts(spoken)], log)
    state = states.without_not_started(initial_state(head.initial_dst_state, words.states, turns, log))
    if is_whole:
        _replay(state, turns, log)
        for (label, turn), written in zip(turns, raw["conversation"], strict=True):
            if turn.role == "DST_UPDATE" and isinstance(written["content"], str):
                log.count("DST_UPDATE turns with their content as a JSON string", label)
    prompt = words.beside(goal, state, log)
    return schema.make_clip(
        head, spoken, _anchor, finder, log, prompt=prompt, goal=goal, steps=steps, initial_state=state, has_dst=True
    )


def _read_steps(raw: dict, log: ClipLog) -> tuple[Step, ...] | None:
    written = raw["dst"]
    if not isinstance(written, list):
        log.fault(f"`dst` must be the list of the task's steps, found {shown(written)}")
        return None
    steps = [schema.validate(_Step, step, log, f"dst[{number}]") for number, step in enumerate(written)]
    if None in steps:
        return None
    twice = [step for step, number in Counter(step.id for step in steps).items() if number > 1]
    if twice:
        log.fault(f"`dst` declares {', '.join(map(shown, twice))} more than once; give every step its own id")
    if not steps:
        log.count("clips that declare no steps")
    return tuple(Step(step.id, step.name, step.start_ts, step.end_ts) for step in steps)


def _check_ranges(head: _Head, turns: Turns, log: ClipLog) -> None:
    previous = head.start_frame_idx
    for label, turn in turns:
        if turn.role == "system" or not head.check_range(turn.start_frame, turn.end_frame, log, label):
            continue
        decision = turn.end_frame - 1
        if decision < previous:
            log.fault(f"decision frame {decision} is before the one above it, {previous}; sort turns by time", label)
        else:
            previous = decision


def _check_declared(head: _Head | None, steps: Iterable[Step], turns: Turns, log: ClipLog) -> None:
    declared = {step.id for step in steps}

    def check(ids: Iterable[str], key: str, label: str = "") -> None:
        unknown = [step for step in ids if step not in declared]
        if unknown:
            log.fault(f"`{key}` names {', '.join(map(shown, unknown))}, which `dst` does not declare", label)

    check((head and head.initial_dst_state) or {}, "initial_dst_state")
    for label, turn in turns:
        check(turn.dst_state or {}, "dst_state", label)
        if turn.role == "DST_UPDATE":
            check([change.id for change in turn.content], "content", label)


def _replay(state: dict[str, str], turns: Turns, log: ClipLog) -> None:
    """Follow the dialog state through the clip; find contradictions and transitions that are not allowed."""
    # The steps that turns have named so far: a `dst_state` without them contradicts what it leaves out.
    seen: set[str] = set()
    for label, turn in turns:
        if turn.dst_state is not None:
            seen |= turn.dst_state.keys()
            wrong = sorted(
                step for step in seen if turn.dst_state.get(step, NOT_STARTED) != state.get(step, NOT_STARTED)
            )
            if wrong:
                detail = ", ".join(f"{step} is {state.get(step, NOT_STARTED)} by then" for step in wrong)
                log.contradiction(CONTRADICTING, label, detail)
        for change in turn.transitions if turn.role == "DST_UPDATE" else ():
            seen.add(change.id)
            what = f"{change.transition} of {change.id}, which is {state.get(change.id, NOT_STARTED)}"
            state, is_allowed = states.apply_transition(state, change)
            if not is_allowed:
                log.contradiction(NOT_ALLOWED, label, what)


def _anchor(head: _Head, turns: Turns, log: ClipLog) -> tuple[Turn, ...]:
    """Return the turns with their frames; a system turn without usable frames goes to the turn before it."""
    anchored: list[Turn] = []
    for number, (label, turn) in enumerate(turns):
        first, end = turn.start_frame, turn.end_frame
        if turn.role == "system":
            before = anchored[-1].frame
            later_ends = [later.end_frame for _, later in turns[number:] if later.role != "system"]
            is_inside = first is not None and end is not None and head.contains(first, end)
            if not is_inside or not before < end <= min(later_ends, default=end):
                first, end = before, before + 1
                log.count("system turns without usable frames, put after the turn before them", label)
        transitions = turn.transitions if turn.role == "DST_UPDATE" else ()
        text = states.format_update(transitions) if transitions else turn.content
        anchored.append(Turn(turn.role, text, transitions, first, end - 1))
    return tuple(anchored)
