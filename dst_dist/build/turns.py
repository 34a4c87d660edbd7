"""Writes a dialog and its transitions as PROSPECT clips: turns at decision frames, with the state before each."""

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from typing import Any

from dst_dist.build.dialogs import Turn
from dst_dist.build.rates import Rate
from dst_dist.build.spans import Change
from dst_dist.build.steps import Step
from dst_dist.data.reading_log import Report
from dst_dist.data.state import Transition, apply_update

PROMPT = "You are a helpful and proactive assistant."
ORDER = ("complete", "pause", "cancel", "reset", "resume", "start")
"""Order of the transitions of one frame."""
SYSTEM = {"role": "system", "content": PROMPT}
SLIP_S = 5.0
"""A turn that is so much earlier than the one above it has another place in its list than in time."""


def in_order(turns: Sequence[Turn], name: str, report: Report) -> list[Turn]:
    """Return a dialog's turns as they are listed, or in order of time if one lies far before the one above it.

    The answer to a turn of the user stays behind it, whatever its time says. Turns that are a little early take the
    time of the one above them, see `place_turns`. Both are counted.
    """
    times = [turn.time for turn in turns]
    num_early = sum(turn < above for above, turn in pairwise(times))
    for place, (above, turn) in enumerate(pairwise(turns), start=1):
        if (above.role, turn.role) == ("user", "assistant"):
            times[place] = max(times[place], times[place - 1])
    far = next((turn for above, turn in pairwise(times) if above - turn > SLIP_S), None)
    if far is not None:
        report.count("dialogs whose turns were put in order of time", f"{name} (a turn at {far:g} s)")
        return [turns[place] for place in sorted(range(len(turns)), key=times.__getitem__)]
    if num_early:
        report.count("turns earlier than the one above them, moved to its time", name, num_early)
    return list(turns)


def place_turns(
    turns: Sequence[Turn], changes: Sequence[Change], steps: Sequence[Step], rate: Rate
) -> tuple[list[dict[str, Any]], int]:
    """Return the turns of a dialog, each with its `frame`, and how many lie beyond the frames file and are left out.

    At a frame stand the user's turns, then one update, then one reply. A turn is never before the one above it: one
    that says so takes the time of that one.
    """
    times = accumulate((turn.time for turn in turns), max)
    placed = [(rate.frame(time), _spoken(turn, time)) for turn, time in zip(turns, times, strict=True)]
    placed += [(rate.frame(change.time), {"role": "DST_UPDATE", "change": change}) for change in changes]
    inside = [pair for pair in placed if rate.num_rows is None or pair[0] < rate.num_rows]
    inside.sort(key=lambda pair: pair[0])
    state: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    for number, pairs in groupby(inside, key=lambda pair: pair[0]):
        state = _add_frame(written, number, [turn for _, turn in pairs], steps, state)
    return written, len(placed) - len(inside)


def _spoken(turn: Turn, time: float) -> dict[str, Any]:
    labels = {"labels": turn.labels} if turn.labels else {}
    return {"role": turn.role, "content": turn.content, "time": time, **labels}


def _add_frame(
    written: list[dict], frame: int, turns: list[dict], steps: Sequence[Step], state: dict[str, str]
) -> dict[str, str]:
    """Append the turns of one frame; returns the state after them."""
    changes = [turn["change"] for turn in turns if turn["role"] == "DST_UPDATE"]
    replies = [turn for turn in turns if turn["role"] == "assistant"]
    written += [{**turn, "frame": frame, "dst_state": state} for turn in turns if turn["role"] == "user"]
    if changes:
        update, after = _update(changes, steps, state)
        content = [change._asdict() for change in update]
        time = min(change.time for change in changes)
        written.append({"role": "DST_UPDATE", "content": content, "time": time, "frame": frame, "dst_state": state})
        state = after
    if replies:
        text = " ".join(turn["content"].strip() for turn in replies)
        written.append({**replies[0], "content": text, "frame": frame, "dst_state": state})
    return state


def _update(
    changes: Sequence[Change], steps: Sequence[Step], state: dict[str, str]
) -> tuple[list[Transition], dict[str, str]]:
    """Return the transitions of one frame and the state after them: in ORDER, else in order of time if that is illegal.

    A step that starts and ends within one frame is such a case.
    """
    by_kind = sorted(changes, key=lambda change: (ORDER.index(change.transition), change.step))
    update = [Transition(steps[change.step].id, change.transition) for change in by_kind]
    after, num_illegal = apply_update(state, update)
    if num_illegal:
        update = [Transition(steps[change.step].id, change.transition) for change in changes]
        after, _ = apply_update(state, update)
    return update, after


def cut(turns: Sequence[dict[str, Any]], start: int, length: int | None) -> list[dict[str, Any]]:
    """Return the frames, turns and first state of each clip of a dialog; together they have every frame up to its end.

    Args:
        start: first frame of the dialog.
        length: frames of every clip but the last; None for one clip, however long.
    """
    end = turns[-1]["frame"] + 1
    clips = []
    for first in range(start, end, length or end - start):
        stop = min(first + length, end) if length else end
        inside = [_with_range(turn, first) for turn in turns if first <= turn["frame"] < stop]
        clips.append(
            {
                "conversation": [SYSTEM, *inside],
                "initial_dst_state": next(turn["dst_state"] for turn in turns if turn["frame"] >= first),
                "start_frame_idx": first,
                "end_frame_idx": stop,
            }
        )
    return clips


def _with_range(turn: dict[str, Any], first: int) -> dict[str, Any]:
    frame = turn["frame"]
    ranges = {"start_frame": max(first, frame - 1), "end_frame": frame + 1}
    rest = {key: value for key, value in turn.items() if key in ("dst_state", "labels")}
    return {"role": turn["role"], "content": turn["content"], "time": turn["time"], **ranges, **rest}
