"""ProAssist prepared dialogs: text turns between stretches of frames, without steps."""

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.formats import schema
from dst_dist.data.formats.agreement import OTHER_TIME, SLACK_S, check_lengths, goal_of
from dst_dist.data.formats.prompt_words import PromptWords
from dst_dist.data.formats.schema import FrameNumber, RawHead, RawTurn, Text, Turns
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import ClipLog


class _Frames(RawTurn):
    start: FrameNumber
    end: FrameNumber


class _System(RawTurn):
    content: str


class _Spoken(RawTurn):
    content: Text


TURNS = {"system": _System, "frames": _Frames, "user": _Spoken, "assistant": _Spoken}


def read_proassist(raw: dict, log: ClipLog, finder: FramesFinder) -> Clip | None:
    """Return one dialog, or None after its faults were logged."""
    head, (turns, _) = schema.validate(RawHead, raw, log), schema.read_turns(TURNS, raw, log)
    if head is None:
        return None
    _check_frames(head, turns, log)
    _check_times(head, turns, log)
    check_lengths(head, sum(turn.end - turn.start for _, turn in turns if turn.role == "frames"), log)
    prompt, others = schema.split_prompt(turns)
    goal = goal_of(head, [prompt, *schema.spoken_texts(others)], log)
    prompt = PromptWords(prompt, ()).beside(goal, {}, log)
    return schema.make_clip(
        head, others, _anchor, finder, log, prompt=prompt, goal=goal, steps=(), initial_state={}, has_dst=False
    )


def _check_frames(head: RawHead, turns: Turns, log: ClipLog) -> None:
    """Check that the frames turns follow one another inside the clip; count gaps between them."""
    position = head.start_frame_idx
    for label, turn in turns:
        if turn.role != "frames" or not head.check_range(turn.start, turn.end, log, label):
            continue
        if turn.start < position:
            log.fault(f"frames [{turn.start}, {turn.end}) start before {position}, where the ones above end", label)
        else:
            _count_gap(position, turn.start, log, label)
            position = turn.end
    _count_gap(position, head.end_frame_idx, log, "after the last turn")


def _count_gap(position: int, start: int, log: ClipLog, label: str) -> None:
    if position < start:
        log.count("gaps between frames turns, their frames kept", label, f"frames [{position}, {start})")


def _check_times(head: RawHead, turns: Turns, log: ClipLog) -> None:
    """Count the text turns whose time is not that of the last frame before them; their place is believed."""
    frame, placed = head.start_frame_idx, []
    for label, turn in turns:
        frame = turn.end if turn.role == "frames" else frame
        if turn.role in ("user", "assistant") and turn.time is not None:
            placed.append((label, turn.time * head.fps, frame))
    # Seconds of the video, or of the clip.
    far = [
        [(label, frame) for label, at, frame in placed if abs(at + start - frame) > 1 + SLACK_S * head.fps]
        for start in (0, head.start_frame_idx)
    ]
    for label, frame in min(far, key=len):
        log.contradiction(OTHER_TIME, label, f"said at frame {frame - 1}")


def _anchor(head: RawHead, turns: Turns, log: ClipLog) -> tuple[Turn, ...]:
    """Return the text turns, each at the last frame of the frames turn before it."""
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
