"""Timelines of a clip: gold, predicted by a model, and predicted with the delay of computing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dst_dist.data.clips import Clip
from dst_dist.data.conversation import arrange
from dst_dist.data.state import Transition, apply_update, without_not_started
from dst_dist.heads import HEADS, Head


@dataclass(frozen=True)
class Event:
    """A turn that the model wrote after a frame: an update (`DST_UPDATE`) or a reply (`assistant`).

    Attributes:
        probability: of the head that decided to write it.
        transitions: empty for a reply, and for an update that could not be read.
        num_illegal: how many of them the dialog state did not allow; these did not change it.
        written_s: seconds of computing from the beginning of work on the frame until the event was complete.
    """

    role: str
    frame: int
    text: str
    probability: float
    transitions: tuple[Transition, ...] = ()
    num_illegal: int = 0
    written_s: float = 0.0


@dataclass
class Watched:
    """Texts that a model wrote on one clip.

    Attributes:
        states: the dialog state after each frame and the turns written after it.
        probabilities: float32 [num_frames, heads], at each frame's decision position.
        counts: turns cut off, updates that cannot be read, illegal transitions and missing frames, by kind.
        frame_s: float64 [num_frames], seconds of computing spent on the frame and the turns written after it. With
            several streams at once it is this one's share: the shares add up to the time that passed.
    """

    clip: Clip
    events: list[Event]
    states: list[dict[str, str]]
    probabilities: np.ndarray
    counts: Counter[str]
    frame_s: np.ndarray


@dataclass
class Timeline:
    """Updates and replies of a clip with their times in seconds of the video, and the states after each frame.

    Attributes:
        update_positions: indexes into `states` of the updates; of gold timelines only.
    """

    updates: list[tuple[float, tuple[Transition, ...]]] = field(default_factory=list)
    replies: list[tuple[float, str]] = field(default_factory=list)
    states: list[dict[str, str]] = field(default_factory=list)
    update_positions: list[int] = field(default_factory=list)

    @property
    def transitions(self) -> list[tuple[float, Transition]]:
        """Single transitions with their times."""
        return [(time_s, change) for time_s, changes in self.updates for change in changes]


def is_asked(head: Head, clip: Clip) -> bool:
    """Return whether the head decides in this clip."""
    return bool(clip.steps) or not head.needs_steps


def asked_minutes(clip: Clip) -> dict[str, float]:
    """Return by head the minutes of video in which it decides."""
    minutes = (clip.end_frame - clip.start_frame) / clip.fps / 60
    return {head.name: minutes if is_asked(head, clip) else 0.0 for head in HEADS}


def gold_timeline(clip: Clip) -> Timeline:
    """Return the clip's turns as a timeline; replies and updates of one outcome are joined."""
    timeline, state = Timeline(), dict(clip.initial_state)
    for group in arrange(clip, "continuous", "last"):
        for turn in group.turns:
            if turn.role == "DST_UPDATE":
                state, _ = apply_update(state, turn.transitions)
                timeline.updates.append((group.frame / clip.fps, turn.transitions))
                timeline.update_positions.append(len(timeline.states))
            elif turn.role == "assistant":
                timeline.replies.append((group.frame / clip.fps, turn.text))
        timeline.states.append(without_not_started(state))
    return timeline


def predicted_timeline(watched: Watched) -> Timeline:
    """Return a stream's events, each at the time of its frame."""
    return _timeline(watched, [event.frame / watched.clip.fps for event in watched.events], watched.states)


def timeline_on_the_clock(watched: Watched) -> Timeline:
    """Return a stream's events, each at the time at which it was complete while frames went on arriving.

    Work on a frame begins when it has arrived and the one before it is done; no frame is skipped. The state of a frame
    is the one known when the next frame arrives.
    """
    clip = watched.clip
    arrived_s = (clip.start_frame + np.arange(len(watched.states))) / clip.fps
    begun_s, done_s = clock(arrived_s, watched.frame_s)
    times_s = [begun_s[event.frame - clip.start_frame] + event.written_s for event in watched.events]
    known = np.minimum(np.searchsorted(done_s, arrived_s + 1 / clip.fps, side="right"), 1 + np.arange(len(done_s)))
    return _timeline(watched, times_s, [watched.states[count - 1] if count else clip.initial_state for count in known])


def clock(arrived_s: np.ndarray, work_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return when work on each frame begins and ends, given when frames arrive and how long each takes, in seconds."""
    begun_s, done_s, free_s = np.empty_like(arrived_s), np.empty_like(arrived_s), -np.inf
    for index, (arrival_s, takes_s) in enumerate(zip(arrived_s, work_s, strict=True)):
        begun_s[index] = max(arrival_s, free_s)
        free_s = done_s[index] = begun_s[index] + takes_s
    return begun_s, done_s


def delays(streams: Sequence[Watched]) -> dict[str, float]:
    """Return median, 90 % quantile and maximum of the seconds from a frame's arrival until its work is done."""
    arrived_s = [np.arange(len(one.states)) / one.clip.fps for one in streams]
    waits_s = np.concatenate([clock(at_s, one.frame_s)[1] - at_s for at_s, one in zip(arrived_s, streams, strict=True)])
    most = {"delay_s_90": float(np.quantile(waits_s, 0.9)), "delay_s_most": float(waits_s.max())}
    return {"delay_s": float(np.median(waits_s))} | most


def _timeline(watched: Watched, times_s: list[float], states: list[dict[str, str]]) -> Timeline:
    timed = list(zip(times_s, watched.events, strict=True))
    return Timeline(
        [(time_s, event.transitions) for time_s, event in timed if event.role == "DST_UPDATE"],
        [(time_s, event.text) for time_s, event in timed if event.role == "assistant"],
        [without_not_started(state) for state in states],
    )
