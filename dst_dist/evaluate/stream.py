"""One frame at a time, as in use: decide, write, keep the dialog state, and never run out of context."""

from collections import Counter, deque
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache

from dst_dist.data.clips import Clip
from dst_dist.data.samples import SampleMaker
from dst_dist.data.state import Transition, apply_update, parse_update
from dst_dist.model.smolvlm_dst import SmolVLMForDST


@dataclass(frozen=True)
class Event:
    """Something the model wrote after a frame: an update (`DST_UPDATE`) or a reply (`assistant`).

    `transitions` is empty for a reply, and for an update that could not be read; `num_illegal` of them were not
    allowed by the state and left it alone.
    """

    role: str
    frame: int
    text: str
    probability: float
    transitions: tuple[Transition, ...] = ()
    num_illegal: int = 0


@dataclass(frozen=True)
class Thresholds:
    """Write above these probabilities."""

    dst_update: float = 0.5
    speaking: float = 0.5


@dataclass
class _Group:
    """A frame's embeddings [K, hidden] and the ids written after it."""

    frame: torch.Tensor
    ids: list[int] = field(default_factory=list)


class Streamer:
    """Follows one video. Give it frames and what the user says; it answers with what it writes.

    The tokens are those of training: the opening turn, every frame, turns after their frame. When the context is
    full: `carry_state` opens a new one with the dialog state reached and the last `data.context_seconds` of frames,
    as a long clip is split for training; `drop_middle` keeps the opening and the newer half; `drop_all` keeps the
    opening alone. Memory does not grow with the video.

    Args:
        task: what the opening turn says (prompt, goal, steps, initial state) and `fps`; its turns are not read.
        maker: lengths, limits and token writer, as in training.
        on_full_context: `carry_state`, `drop_middle` or `drop_all`.
        max_new_tokens: a turn that is longer is cut off, and counted in `counts`.
    """

    def __init__(
        self, model: SmolVLMForDST, task: Clip, maker: SampleMaker, thresholds: Thresholds,
        on_full_context: str = "carry_state", max_new_tokens: int = 128,
    ):  # fmt: skip
        self.model, self.task, self.maker, self.writer = model, task, maker, maker.writer
        self.thresholds, self.on_full_context, self.max_new_tokens = thresholds, on_full_context, max_new_tokens
        self.step_ids = [step.id for step in task.steps]
        self.state = dict(task.initial_state)
        self.counts: Counter[str] = Counter()
        self.frame_index = task.start_frame - 1
        self.probabilities = (0.0, 0.0)
        """Of an update and of a reply, at the newest decision position."""
        self._groups: deque[_Group] = deque()
        self._open(self.state)

    @torch.no_grad()
    def push_frame(self, frame: torch.Tensor) -> list[Event]:
        """See the next frame, uint8 [3, S, S]; returns what is written after it."""
        self.frame_index += 1
        self._make_room(self.writer.tokens_per_frame, num_frames=1)
        embeddings = self.model.encode_frames(frame[None].to(self.model.device))[0]
        self._groups.append(_Group(embeddings))
        return self._decide(self._feed(embeddings)[-1:])

    @torch.no_grad()
    def push_user(self, text: str) -> list[Event]:
        """Hear the user after the newest frame; returns what is written as an answer."""
        ids = self._whole(self.writer.turn("user", text))
        self._make_room(len(ids), num_frames=0)
        return self._decide(self._write(ids)[-1:])

    def _whole(self, turn) -> list[int]:
        return [*turn.header, *turn.body, *turn.end]

    def _decide(self, hidden: torch.Tensor) -> list[Event]:
        """Read both heads once, then write: the update first, then the reply."""
        dst_update, speaking = (float(probability[0]) for probability in self.model.decide(hidden))
        self.probabilities = (dst_update, speaking)
        events = []
        if self.task.steps and dst_update > self.thresholds.dst_update:
            events.append(self._update(dst_update))
        if speaking > self.thresholds.speaking:
            events.append(Event("assistant", self.frame_index, self._generate("assistant"), speaking))
        return events

    def _update(self, probability: float) -> Event:
        text = self._generate("DST_UPDATE")
        try:
            transitions = parse_update(text, self.step_ids)
        except ValueError:
            self.counts["updates that cannot be read"] += 1
            return Event("DST_UPDATE", self.frame_index, text, probability)
        self.state, num_illegal = apply_update(self.state, transitions)
        self.counts["transitions not allowed"] += num_illegal
        return Event("DST_UPDATE", self.frame_index, text, probability, transitions, num_illegal)

    def _generate(self, role: str) -> str:
        """Write a turn greedily, up to `<end_of_utterance>`; its text."""
        empty = self.writer.turn(role, "")
        hidden, body = self._write(empty.header), []
        most = min(self.max_new_tokens, self.maker.limits.tokens - self._num_tokens - 1 - len(empty.end))
        while (token := int(self.model.lm_head(hidden[-1:]).argmax())) != self.writer.end_id:
            if len(body) >= most:
                self.counts["turns cut off"] += 1
                break
            body.append(token)
            hidden = self._write([token])
        self._write([self.writer.end_id, *empty.end])
        return self.writer.tokenizer.decode(body).strip()

    def _write(self, ids: list[int]) -> torch.Tensor:
        if self._groups:
            self._groups[-1].ids += ids
        return self._feed(self._embed(ids))

    def _embed(self, ids: list[int]) -> torch.Tensor:
        return self.model.get_input_embeddings()(torch.tensor(ids, device=self.model.device))

    def _feed(self, embeddings: torch.Tensor) -> torch.Tensor:
        self._num_tokens += len(embeddings)
        return self.model.continue_from(embeddings, self._cache)

    def _open(self, state: dict[str, str]) -> None:
        """Begin a context with the opening turn."""
        self._cache, self._num_tokens = DynamicCache(), 0
        self._feed(self._embed(self.writer.header(self.task, state)))

    def _make_room(self, num_tokens: int, num_frames: int) -> None:
        """Begin a new context if what comes next, with two turns after it, might not fit."""
        limits = self.maker.limits
        num_tokens += min(2 * self.max_new_tokens, limits.tokens // 4)
        if self._num_tokens + num_tokens <= limits.tokens and len(self._groups) + num_frames <= limits.frames:
            return
        self.counts[f"contexts that were full: {self.on_full_context}"] += 1
        state = self.state if self.on_full_context == "carry_state" else self.task.initial_state
        room = limits.tokens - len(self.writer.header(self.task, state)) - num_tokens
        kept = self._kept_groups(room)
        self._open(state)
        self._groups = deque(kept)
        for group in kept:
            self._feed(group.frame)
            if group.ids:
                self._feed(self._embed(group.ids))

    def _kept_groups(self, room_tokens: int) -> list[_Group]:
        """What of the full context goes on into the next."""
        groups = list(self._groups)
        if self.on_full_context == "carry_state":
            number = self.maker.num_context_frames(len(groups), self.task.fps, room_tokens)
            return [_Group(group.frame) for group in groups[len(groups) - number :]]
        kept = groups[-(len(groups) // 2) :] if self.on_full_context == "drop_middle" and len(groups) > 1 else []
        while sum(len(group.frame) + len(group.ids) for group in kept) > room_tokens:
            kept = kept[1:]
        return kept
