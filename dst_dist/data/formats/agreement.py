"""Compares what a clip says twice; of two statements that differ, the one that the rest of the clip supports counts."""

import math
from collections.abc import Iterable

from dst_dist.data.formats.schema import RawHead, RawTurn, Turns
from dst_dist.data.reading_log import ClipLog

SLACK_S = 1.0
"""Seconds that a turn's time may lie outside its frames: public data rounds both."""
OTHER_GOAL = "clips that name two tasks, the one that their texts repeat believed"
OTHER_TIME = "turns whose time is not that of their frames, which are believed"
OTHER_FRAMES = "turns whose frames do not fit between the others', put where their time says"
TOO_SHORT = "clips whose seq_len has no room for their frames, which are kept"
TOO_LONG = "clips whose seq_len exceeds their max_seq_len, their length is counted anew"


def alike(text: str) -> str:
    """Return a text in the form that is compared: lower case, single spaces, no full stop at its end."""
    return " ".join(text.split()).casefold().rstrip(".")


def goal_of(head: RawHead, texts: Iterable[str], log: ClipLog) -> str:
    """Return the task that a clip names, empty if none; if it names several, the one that most of its texts repeat.

    Args:
        texts: the other texts of the clip. Without any, the first of the keys counts.
    """
    said = {
        "inferred_goal": getattr(head, "inferred_goal", None),
        "metadata.task_goal": head.metadata.task_goal,
        "video_labels.task_goal": head.video_labels.task_goal,
    }
    goals = {key: text for key, text in said.items() if text and text.strip()}
    if len({alike(goal) for goal in goals.values()}) < 2:
        return next(iter(goals.values()), "")
    all_texts = [alike(text) for text in (*goals.values(), *texts)]
    believed = max(goals.values(), key=lambda goal: sum(alike(goal) in text for text in all_texts))
    log.contradiction(OTHER_GOAL, detail=", ".join(f"{key} {text!r}" for key, text in goals.items()))
    return believed


def check_lengths(head: RawHead, num_frames: int, log: ClipLog) -> None:
    """Compare the sequence length that a clip states with its frames, and with its own limit."""
    frame_tokens = num_frames * (head.num_tokens_per_img or 1)
    if head.seq_len and head.seq_len < frame_tokens:
        log.contradiction(TOO_SHORT, detail=f"seq_len {head.seq_len}, {frame_tokens} tokens of frames")
    if head.seq_len and head.max_seq_len and head.seq_len > head.max_seq_len:
        log.contradiction(TOO_LONG, detail=f"seq_len {head.seq_len}, max_seq_len {head.max_seq_len}")


def settle_frames(head: RawHead, turns: Turns, log: ClipLog) -> Turns:
    """Return the turns; one whose frames agree neither with its time nor with its neighbours is moved to its time.

    Frames count as long as they fit between those of the turns before and behind. Times are seconds of the video, or of
    the clip if that agrees with more turns.
    """
    verdicts = {start: [_agrees(turn, start, head.fps) for _, turn in turns] for start in (0, head.start_frame_idx)}
    start = max(verdicts, key=lambda one: verdicts[one].count(True))
    agrees = verdicts[start]
    if False not in agrees:
        return turns
    return [
        (label, _settled(head, turns, number, agrees, start, log) if agrees[number] is False else turn)
        for number, (label, turn) in enumerate(turns)
    ]


def _agrees(turn: RawTurn, start: int, fps: float) -> bool | None:
    """Return whether a turn's time is that of its frames, None if it lacks one; times count from frame `start`."""
    if turn.role == "system" or turn.time is None:
        return None
    return (turn.start_frame - start) / fps - SLACK_S <= turn.time <= (turn.end_frame - start) / fps + SLACK_S


def _settled(head: RawHead, turns: Turns, number: int, agrees: list[bool | None], start: int, log: ClipLog) -> RawTurn:
    """Return a turn whose time is not that of its frames, with the frames that are believed."""
    label, turn = turns[number]
    sure = {
        place: other.end_frame - 1
        for place, (_, other) in enumerate(turns)
        if agrees[place] is not False and other.role != "system"
    }
    low = max([head.start_frame_idx, *(frame for place, frame in sure.items() if place < number)])
    high = min([head.end_frame_idx - 1, *(frame for place, frame in sure.items() if place > number)])
    # A turn at a frame's very time comes after that frame, though the product may be a rounding below.
    by_time = start + math.floor(turn.time * head.fps + 1e-6)
    detail = f"time {turn.time:g} s, frames [{turn.start_frame}, {turn.end_frame})"
    has_place = head.contains(turn.start_frame, turn.end_frame) and low <= turn.end_frame - 1 <= high
    if has_place or True not in agrees or not low <= by_time <= high:
        log.contradiction(OTHER_TIME, label, detail)
        return turn
    log.contradiction(OTHER_FRAMES, label, detail)
    return turn.model_copy(update={"start_frame": by_time, "end_frame": by_time + 1})
