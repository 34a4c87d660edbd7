"""Follows a video frame by frame: decides, writes, keeps the dialog state, begins a new context when one is full."""

import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from dst_dist.data.clips import Clip
from dst_dist.data.samples import SampleMaker
from dst_dist.data.state import NOT_STARTED, STATUSES, apply_update, parse_update
from dst_dist.errors import DataError, collect
from dst_dist.heads import HEADS, Head
from dst_dist.measure.timeline import Event, is_asked
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.streaming.reader import Batch, Feed, Reading

Steps = Generator[Feed, Reading, list[Event]]
"""Yields what is to be read next, is sent the reading, and returns the events written."""


class _Group(NamedTuple):
    """A frame's embeddings [K, hidden], and its ids with all ids up to the next frame."""

    frame: torch.Tensor
    ids: list[int]


class Stream:
    """Follows one video; its caller reads the feeds that it yields. `Streamer` reads them itself.

    The tokens are those of training: the opening turn, every frame, turns after their frame. When the context is
    full, `carry_state` opens a new one with the current dialog state and the last `data.context_seconds` of frames,
    as a long clip is split for training. `drop_middle` keeps the opening turn and the newer half, `drop_all` only the
    opening turn. Memory does not grow with the video.

    Args:
        task: the opening turn (prompt, goal, steps, initial state) and `fps`; its turns are not read.
        maker: lengths, limits and token writer, as in training.
        thresholds: by head; a turn is written if its head's probability is above it.
        on_full_context: `carry_state`, `drop_middle` or `drop_all`.
        max_new_tokens: a longer turn is cut off, and counted in `counts`.

    Attributes:
        state: the dialog state; a new object whenever it changes.
        probabilities: of each of HEADS, at the newest decision position.
        work_s: seconds of computing so far; whoever reads the feeds adds to it.

    Raises:
        DataError: if the opening turn leaves no room for a frame.
    """

    def __init__(
        self,
        task: Clip,
        maker: SampleMaker,
        thresholds: Mapping[str, float],
        on_full_context: str = "carry_state",
        max_new_tokens: int = 128,
    ):
        self.task, self.maker, self.writer = task, maker, maker.writer
        self.thresholds, self.on_full_context, self.max_new_tokens = thresholds, on_full_context, max_new_tokens
        self.step_ids = [step.id for step in task.steps]
        self.state = dict(task.initial_state)
        self.counts: Counter[str] = Counter()
        self.frame_index = task.start_frame - 1
        self.probabilities = (0.0,) * len(HEADS)
        self.work_s = self._begun_s = 0.0
        self._open(self.state)

    def see(self, frame: torch.Tensor) -> Steps:
        """Take the next frame's embeddings, [K, hidden]."""
        self.frame_index += 1
        self._begun_s = self.work_s
        self._make_room(self.writer.tokens_per_frame, num_frames=1)
        self._put_frame(frame, self.writer.frame)
        return (yield from self._decide())

    def hear(self, text: str, role: str = "user") -> Steps:
        """Take a user turn after the newest frame, or a system turn, after which nothing is decided."""
        turn = self.writer.turn(role, text)
        self._make_room(len(turn), num_frames=0)
        body, excess = turn.body, len(turn) - self._room_left()
        if excess > 0:
            self.counts[f"{role} turns cut off"] += 1
            body = [*body[: max(0, len(body) - 1 - excess)], self.writer.end_id]
        self._put([*turn.header, *body, *turn.end])
        return (yield from self._decide()) if role == "user" else []

    def _decide(self) -> Steps:
        """Read the heads once, then write the turns that they decide on, in the order of HEADS."""
        self.probabilities = yield self._feed(wants_token=False)
        events = []
        for head, probability in zip(HEADS, self.probabilities, strict=True):
            if is_asked(head, self.task) and probability > self.thresholds[head.name]:
                text = yield from self._generate(head.role)
                events.append(self._event(head, text, probability))
        return events

    def _event(self, head: Head, text: str, probability: float) -> Event:
        """Return the written turn as an event; an update changes the dialog state."""
        transitions, num_illegal = (), 0
        if head.role == "DST_UPDATE":
            try:
                transitions = parse_update(text, self.step_ids)
            except ValueError:
                self.counts["updates that cannot be read"] += 1
            else:
                self.state, num_illegal = apply_update(self.state, transitions)
                self.counts["transitions not allowed"] += num_illegal
        written_s = self.work_s - self._begun_s
        return Event(head.role, self.frame_index, text, probability, transitions, num_illegal, written_s)

    def _generate(self, role: str) -> Generator[Feed, Reading, str]:
        """Write a turn greedily up to `<end_of_utterance>` and return its text."""
        empty, body = self.writer.turn(role, ""), []
        self._put(empty.header)
        most = min(self.max_new_tokens, self.maker.limits.tokens - self._num_tokens - 1 - len(empty.end))
        while (token := (yield self._feed(wants_token=True))) != self.writer.end_id:
            if len(body) >= most:
                self.counts["turns cut off"] += 1
                break
            body.append(token)
            self._put([token])
        self._put([self.writer.end_id, *empty.end])
        return self.writer.tokenizer.decode(body).strip()

    def _feed(self, wants_token: bool) -> Feed:
        """Return the ids and frames put since the last feed; a turn's end is read together with what follows it."""
        feed = Feed(self._unread, self._unread_frames, wants_token, self._is_fresh)
        self._unread, self._unread_frames, self._is_fresh = [], [], False
        return feed

    def _put(self, ids: Sequence[int]) -> None:
        self._unread += ids
        self._num_tokens += len(ids)
        if self._groups:
            self._groups[-1].ids.extend(ids)

    def _put_frame(self, frame: torch.Tensor, ids: Sequence[int]) -> None:
        self._unread_frames.append(frame)
        self._groups.append(_Group(frame, []))
        self._put(ids)

    def _open(self, state: dict[str, str]) -> None:
        """Begin a context with the opening turn."""
        self._unread, self._unread_frames, self._is_fresh = _opening(self.task, state, self.maker), [], True
        self._num_tokens = len(self._unread)
        self._groups: list[_Group] = []

    def _room_left(self) -> int:
        """Return the tokens that still fit before two turns are written."""
        limit = self.maker.limits.tokens
        return limit - self._num_tokens - min(2 * self.max_new_tokens, limit // 4)

    def _make_room(self, num_tokens: int, num_frames: int) -> None:
        """Begin a new context if the next tokens and frames, with two turns after them, might not fit."""
        if num_tokens <= self._room_left() and len(self._groups) + num_frames <= self.maker.limits.frames:
            return
        self.counts[f"contexts that were full: {self.on_full_context}"] += 1
        groups = self._groups
        self._open(self.state if self.on_full_context == "carry_state" else self.task.initial_state)
        for group in self._kept_groups(groups, max(0, self._room_left() - num_tokens)):
            self._put_frame(*group)

    def _kept_groups(self, groups: list[_Group], room_tokens: int) -> list[_Group]:
        """Return the groups of a full context that the next one begins with."""
        if self.on_full_context == "carry_state":
            number = self.maker.num_context_frames(len(groups), self.task.fps, room_tokens)
            return [_Group(group.frame, self.writer.frame) for group in groups[len(groups) - number :]]
        kept = groups[-(len(groups) // 2) :] if self.on_full_context == "drop_middle" and len(groups) > 1 else []
        while sum(len(group.ids) for group in kept) > room_tokens:
            kept = kept[1:]
        return kept


def check_openings(tasks: Iterable[Clip], maker: SampleMaker) -> None:
    """Raise DataError with every task whose opening turn, with its longest state, would leave no room for a frame."""
    longest = max(set(STATUSES) - {NOT_STARTED}, key=lambda status: len(maker.writer.turn("user", status)))
    faults = []
    for task in tasks:
        collect(faults, lambda task=task: _opening(task, {step.id: longest for step in task.steps}, maker))
    if faults:
        raise DataError(faults)


def _opening(task: Clip, state: dict[str, str], maker: SampleMaker) -> list[int]:
    header = maker.writer.header(task, state)
    if len(header) + maker.writer.tokens_per_frame > maker.limits.tokens:
        raise DataError(
            f"{task.id}: the opening turn ({len(header)} tokens) leaves no room for a frame in "
            f"{maker.limits.tokens} tokens; shorten the prompt or the steps, or train with a larger data.max_seq_len"
        )
    return header


class Streamer(Stream):
    """Follows one video live: takes frames and the user's turns, returns the turns that it writes.

    Args:
        model: in evaluation mode. The others as in `Stream`.
    """

    def __init__(self, model: SmolVLMForDST, *arguments, **options):
        super().__init__(*arguments, **options)
        self._batch = Batch(model, 1)

    def push_frame(self, frame: torch.Tensor) -> list[Event]:
        """Take the next frame, uint8 [3, S, S], and return the turns written after it."""
        started_s = time.perf_counter()
        return self._run(self.see(self._batch.encode(frame[None])[0]), started_s)

    def push_user(self, text: str) -> list[Event]:
        """Take a user turn after the newest frame, and return the turns written after it."""
        return self._run(self.hear(text), time.perf_counter())

    def push_system(self, text: str) -> list[Event]:
        """Take a system turn after the newest frame, such as a new instruction; nothing is written after it."""
        return self._run(self.hear(text, "system"), time.perf_counter())

    def _run(self, steps: Steps, lap_s: float) -> list[Event]:
        """Read the feeds until the steps are done."""
        reading = None
        while True:
            try:
                feed = steps.send(reading)
            except StopIteration as end:
                return end.value
            (reading,) = self._batch.read([feed])
            now_s = time.perf_counter()
            self.work_s += now_s - lap_s
            lap_s = now_s
