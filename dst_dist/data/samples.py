"""From a clip's groups to samples: splitting what is too long, and the arrays of one sample."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dst_dist import config
from dst_dist.data.clips import Clip
from dst_dist.data.conversation import IGNORE, Group, arrange, turn_text
from dst_dist.data.state import apply_update
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_NAMES, HEAD_ROLES

COUNT_NAMES = ("lm", "dst_gen", *(f"{head}_{kind}" for head in HEAD_NAMES for kind in ("positives", "negatives")))
"""What the loss terms are means over: supervised tokens, those of updates, and each head's counted positions."""


class Limits(NamedTuple):
    """The most that one sample may hold."""

    tokens: int
    frames: int


class Part(NamedTuple):
    """Groups [start, stop) of a clip, preceded by groups [context, start) that are seen but not supervised."""

    context: int
    start: int
    stop: int
    num_tokens: int
    counts: tuple[int, ...]
    """In the order of COUNT_NAMES, with every negative."""

    @property
    def num_frames(self) -> int:
        return self.stop - self.context


@dataclass(frozen=True)
class Sample:
    """One sample's arrays; T tokens, F frames, D decision positions.

    `labels` stand at the token they name (-100 elsewhere): nothing is shifted here.
    """

    input_ids: np.ndarray  # int64 [T]
    labels: np.ndarray  # int64 [T]
    is_dst: np.ndarray  # bool [T], the labels of DST turns
    turn: np.ndarray  # int32 [T], the supervised turn that a label belongs to, -1 elsewhere
    frames: np.ndarray  # int64 [F], absolute frame indexes
    decision_positions: np.ndarray  # int64 [D]
    decision_frames: np.ndarray  # int64 [D], the frame of the position
    decision_is_frame: np.ndarray  # bool [D], False at the end of a user turn
    decisions: dict[str, np.ndarray]  # int64 [D] in {1, 0, -100}, by head


class SampleMaker:
    """Cuts clips into parts and writes the arrays of a part; the recipe's `data` and `labels` decide how."""

    def __init__(self, writer: TokenWriter, data: config.Data, labels: config.Labels, limits: Limits):
        self.writer = writer
        self.data = data
        self.labels = labels
        self.limits = limits

    def split(self, clip: Clip, counts: Counter, blind_frames: Collection[int] = ()) -> list[Part]:
        """Return the parts of a clip, each within the limits, cut after a frame with turns where possible.

        Args:
            counts: what was joined, reordered, split or left out is counted here.
            blind_frames: as in `make`.

        Raises:
            DataError: with the opening turn, or every frame with its turns, that cannot fit.
        """
        groups = arrange(clip, self.data.frames, self.labels.positive_frames, counts)
        if not groups:
            counts["clips without a turn left out, data.frames=event has nothing to show"] += 1
            return []
        costs, positions = self._measure(groups, set(blind_frames))
        parts, faults, start, state = [], [], 0, clip.initial_state
        while start < len(groups):
            room = self._room(clip, state)
            stop = start + 1
            if costs[start] <= room:
                context, stop = self._next_range(clip, groups, costs, start, room)
                num_tokens = self.limits.tokens - room + (start - context) * self.writer.tokens_per_frame
                num_tokens += int(costs[start:stop].sum())
                parts.append(Part(context, start, stop, num_tokens, tuple(positions[start:stop].sum(0).tolist())))
            else:
                faults.append(
                    f"clip {clip.id}: frame {groups[start].frame} with its turns ({costs[start]} tokens) does not fit "
                    f"in the {room} tokens behind the opening turn; raise data.max_seq_len and train.max_tokens"
                )
            state = _state_after(state, groups[start:stop])
            start = stop
        if faults:
            raise DataError(faults)
        counts["clips split because they are too long"] += len(parts) > 1
        return parts

    def _measure(self, groups: list[Group], blind: set[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of every group, int64 [groups], and its counts, int64 [groups, COUNT_NAMES]."""
        tokens = np.full(len(groups), self.writer.tokens_per_frame, dtype=np.int64)
        labels = np.array([[group.decision[head] for head in HEAD_NAMES] for group in groups])
        labels[[group.frame in blind for group in groups]] = IGNORE
        counts = np.zeros((len(groups), len(COUNT_NAMES)), dtype=np.int64)
        counts[:, 2::2], counts[:, 3::2] = labels == 1, labels == 0
        for index, group in ((index, group) for index, group in enumerate(groups) if group.turns):
            for turn in group.turns:
                ids = self.writer.turn(turn.role, turn_text(turn))
                tokens[index] += len(ids)
                if turn.role in HEAD_ROLES:
                    counts[index, :2] += len(ids.body), len(ids.body) * (turn.role == "DST_UPDATE")
            for decision in group.user_decisions:
                counts[index, 2:] += [decision[head] == label for head in HEAD_NAMES for label in (1, 0)]
        return tokens, counts

    def _room(self, clip: Clip, state: dict[str, str]) -> int:
        """The tokens that the opening turn leaves."""
        header = len(self.writer.header(clip, state))
        if header + self.writer.tokens_per_frame > self.limits.tokens:
            raise DataError(
                f"clip {clip.id}: the opening turn ({header} tokens) leaves no room for a frame in "
                f"{self.limits.tokens} tokens; shorten the prompt, or raise data.max_seq_len and train.max_tokens"
            )
        return self.limits.tokens - header

    def _next_range(self, clip: Clip, groups: list[Group], costs: np.ndarray, start: int, room: int) -> tuple[int, int]:
        """Return where the context of the part that begins at group `start` begins, and where the part ends."""
        # Event frames leave gaps: what was shown long before is no context.
        earliest = groups[start].frame - self._num_wanted(clip.fps)
        num_before = start - bisect_left(groups, earliest, hi=start, key=lambda group: group.frame)
        num_context = self.num_context_frames(num_before, clip.fps, room - int(costs[start]))
        context_tokens = num_context * self.writer.tokens_per_frame
        fits_tokens = np.searchsorted(np.cumsum(costs[start:]), room - context_tokens, side="right")
        stop = start + min(int(fits_tokens), self.limits.frames - num_context)
        if stop < len(groups):
            stop = next((index + 1 for index in reversed(range(start, stop)) if groups[index].turns), stop)
        return start - num_context, stop

    def _num_wanted(self, fps: float) -> int:
        return round(self.data.context_seconds * fps)

    def num_context_frames(self, num_before: int, fps: float, room_tokens: int) -> int:
        """Frames carried over into a new context: `data.context_seconds`, at most half of what is left."""
        room = min(room_tokens // self.writer.tokens_per_frame, self.limits.frames - 1) // 2
        return min(num_before, self._num_wanted(fps), room)

    def make(self, clip: Clip, part: Part, blind_frames: Collection[int] = ()) -> Sample:
        """Write one part's arrays, every negative counted.

        Args:
            blind_frames: absolute indexes of frames known to be missing; their decisions are ignored.
        """
        groups = arrange(clip, self.data.frames, self.labels.positive_frames)
        arrays = _Arrays(self.writer)
        arrays.add(self.writer.header(clip, _state_after(clip.initial_state, groups[: part.start])))
        for group in groups[part.context : part.start]:
            arrays.add_frame(group.frame)
        blind = set(blind_frames)
        for group in groups[part.start : part.stop]:
            arrays.add_group(group, blind=group.frame in blind)
        sample = arrays.sample()
        assert len(sample.input_ids) == part.num_tokens, "the planned length is the written length"
        return sample


def _state_after(state: dict[str, str], groups: Sequence[Group]) -> dict[str, str]:
    """The dialog state behind all turns of the groups."""
    for turn in (turn for group in groups for turn in group.turns if turn.transitions):
        state, _ = apply_update(state, turn.transitions)
    return state


class _Arrays:
    """Grows the arrays of one sample in token order."""

    def __init__(self, writer: TokenWriter):
        self.writer = writer
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.is_dst: list[bool] = []
        self.turn: list[int] = []
        self.num_turns = 0
        self.frames: list[int] = []
        self.decisions: list[tuple[int, ...]] = []

    def add(self, ids: list[int], supervised: bool = False, is_dst: bool = False) -> None:
        self.ids += ids
        self.labels += ids if supervised else [IGNORE] * len(ids)
        self.is_dst += [is_dst] * len(ids)
        self.turn += [self.num_turns if supervised else -1] * len(ids)
        self.num_turns += supervised

    def add_frame(self, frame: int) -> None:
        self.frames.append(frame)
        self.add(self.writer.frame)

    def add_group(self, group: Group, blind: bool) -> None:
        self.add_frame(group.frame)
        labels = [IGNORE if blind else group.decision[head] for head in HEAD_NAMES]
        self.decisions.append((len(self.ids) - 1, group.frame, True, *labels))
        user_decisions = iter(group.user_decisions)
        for turn in group.turns:
            ids = self.writer.turn(turn.role, turn_text(turn))
            self.add(ids.header)
            self.add(ids.body, supervised=turn.role in HEAD_ROLES, is_dst=turn.role == "DST_UPDATE")
            self.add(ids.end)
            if turn.role == "user":
                decision = next(user_decisions)
                labels = [decision[head] for head in HEAD_NAMES]
                self.decisions.append((len(self.ids) - 1, group.frame, False, *labels))

    def sample(self) -> Sample:
        columns = np.array(self.decisions, dtype=np.int64).reshape(-1, 3 + len(HEAD_NAMES)).T
        return Sample(
            input_ids=np.array(self.ids, dtype=np.int64),
            labels=np.array(self.labels, dtype=np.int64),
            is_dst=np.array(self.is_dst, dtype=bool),
            turn=np.array(self.turn, dtype=np.int32),
            frames=np.array(self.frames, dtype=np.int64),
            decision_positions=columns[0],
            decision_frames=columns[1],
            decision_is_frame=columns[2].astype(bool),
            decisions=dict(zip(HEAD_NAMES, columns[3:], strict=True)),
        )
