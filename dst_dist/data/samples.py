"""Splits clips into parts that are not too long, and writes the arrays of a part: a sample."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dst_dist import config
from dst_dist.data.clips import Clip
from dst_dist.data.conversation import IGNORE, Group, arrange
from dst_dist.data.state import apply_update
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_NAMES, HEAD_ROLES

COUNT_NAMES = ("lm", "dst_gen", *(f"{head}_{kind}" for head in HEAD_NAMES for kind in ("positives", "negatives")))
"""Positions that the loss terms average over: supervised tokens, those of updates, and each head's decisions."""


class Limits(NamedTuple):
    """The most that one sample may hold."""

    tokens: int
    frames: int


class Part(NamedTuple):
    """Groups [start, stop) of a clip, after groups [context, start) that are seen but not supervised."""

    context: int
    start: int
    stop: int
    num_tokens: int
    counts: tuple[int, ...]
    """Counted positions in the order of COUNT_NAMES, with every negative."""

    @property
    def num_frames(self) -> int:
        return self.stop - self.context


@dataclass(frozen=True)
class Sample:
    """One sample's arrays; T tokens, F frames, D decision positions.

    Each label is at its own token (-100 elsewhere): nothing is shifted here.
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
            if stop < len(groups):
                state = _state_after(state, groups[start:stop])
            start = stop
        if faults:
            raise DataError(faults)
        counts["clips split because they are too long"] += len(parts) > 1
        return parts

    def _measure(self, groups: list[Group], blind: set[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of every group, int64 [groups], and its counts, int64 [groups, COUNT_NAMES]."""
        tokens = np.full(len(groups), self.writer.tokens_per_frame, dtype=np.int64)
        labels = np.array([tuple(group.decision.values()) for group in groups]).reshape(-1, len(HEAD_NAMES))
        if blind:
            labels[[group.frame in blind for group in groups]] = IGNORE
        counts = np.zeros((len(groups), len(COUNT_NAMES)), dtype=np.int64)
        counts[:, 2::2], counts[:, 3::2] = labels == 1, labels == 0
        for index, group in enumerate(groups):
            for turn in group.turns:
                ids = self.writer.turn(turn.role, turn.text)
                tokens[index] += len(ids)
                counts[index, 0] += len(ids.body) if turn.role in HEAD_ROLES else 0
                counts[index, 1] += len(ids.body) if turn.role == "DST_UPDATE" else 0
            for decision in group.user_decisions:
                counts[index, 2:] += [decision[head] == label for head in HEAD_NAMES for label in (1, 0)]
        return tokens, counts

    def _room(self, clip: Clip, state: dict[str, str]) -> int:
        """Return the tokens that the opening turn leaves. Raises DataError if a frame does not fit."""
        header = len(self.writer.header(clip, state))
        if header + self.writer.tokens_per_frame > self.limits.tokens:
            raise DataError(
                f"clip {clip.id}: the opening turn ({header} tokens) leaves no room for a frame in "
                f"{self.limits.tokens} tokens; shorten the prompt, or raise data.max_seq_len and train.max_tokens"
            )
        return self.limits.tokens - header

    def _next_range(self, clip: Clip, groups: list[Group], costs: np.ndarray, start: int, room: int) -> tuple[int, int]:
        """Return where the context of a part begins, and where the part ends; `start` is its first supervised group."""
        # Event frames leave gaps: a frame seen long before is no context.
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
        """Return the frames carried over into a new context: `data.context_seconds`, at most half of what is left."""
        room = min(room_tokens // self.writer.tokens_per_frame, self.limits.frames - 1) // 2
        return min(num_before, self._num_wanted(fps), room)

    def make(self, clip: Clip, part: Part, blind_frames: Collection[int] = ()) -> Sample:
        """Write one part's arrays, every negative counted.

        Args:
            blind_frames: absolute indexes of frames known to be missing; their decisions are ignored.
        """
        groups = arrange(clip, self.data.frames, self.labels.positive_frames)
        ids = self.writer.header(clip, _state_after(clip.initial_state, groups[: part.start]))
        ids += self.writer.frame * (part.start - part.context)
        spans: list[tuple[int, int, bool]] = []
        decisions: list[tuple[int, ...]] = []
        blind = set(blind_frames)
        for group in groups[part.start : part.stop]:
            ids += self.writer.frame
            labels = [IGNORE if group.frame in blind else group.decision[head] for head in HEAD_NAMES]
            decisions.append((len(ids) - 1, group.frame, True, *labels))
            user_decisions = iter(group.user_decisions)
            for turn in group.turns:
                turn_ids = self.writer.turn(turn.role, turn.text)
                first = len(ids) + len(turn_ids.header)
                if turn.role in HEAD_ROLES:
                    spans.append((first, first + len(turn_ids.body), turn.role == "DST_UPDATE"))
                ids += turn_ids.header + turn_ids.body + turn_ids.end
                if turn.role == "user":
                    decision = next(user_decisions)
                    decisions.append((len(ids) - 1, group.frame, False, *(decision[head] for head in HEAD_NAMES)))
        assert len(ids) == part.num_tokens, "the planned length is the written length"
        frames = [group.frame for group in groups[part.context : part.stop]]
        return _make_arrays(ids, frames, spans, decisions)


def _state_after(state: dict[str, str], groups: Sequence[Group]) -> dict[str, str]:
    """Return the dialog state after all turns of the groups."""
    for turn in (turn for group in groups for turn in group.turns if turn.transitions):
        state, _ = apply_update(state, turn.transitions)
    return state


def _make_arrays(
    ids: list[int], frames: list[int], spans: list[tuple[int, int, bool]], decisions: list[tuple[int, ...]]
) -> Sample:
    """Return a sample.

    Args:
        spans: (first, end, is_dst) of the ids of each supervised turn.
        decisions: (position, frame, is_frame, label of each head) of each decision position.
    """
    input_ids = np.array(ids, dtype=np.int64)
    labels, turn = np.full(len(ids), IGNORE, dtype=np.int64), np.full(len(ids), -1, dtype=np.int32)
    is_dst = np.zeros(len(ids), dtype=bool)
    for number, (first, end, of_update) in enumerate(spans):
        labels[first:end], turn[first:end], is_dst[first:end] = input_ids[first:end], number, of_update
    positions, decision_frames, is_frame, *heads = np.array(decisions, dtype=np.int64).T
    return Sample(
        input_ids=input_ids,
        labels=labels,
        is_dst=is_dst,
        turn=turn,
        frames=np.array(frames, dtype=np.int64),
        decision_positions=positions,
        decision_frames=decision_frames,
        decision_is_frame=is_frame.astype(bool),
        decisions=dict(zip(HEAD_NAMES, heads, strict=True)),
    )
