"""From a clip to tokens and labels: one layout for training, evaluation and streaming.

A clip becomes a list of `Group`s, one a frame, in time order: the frame's tokens, then the turns
anchored there. `TokenWriter` writes ids; `arrange` orders turns and decides what each decision
position is asked for. Lengths, splits and samples are all made of groups.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tokenizers import Tokenizer

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.state import format_state, format_update
from dst_dist.errors import ConfigError

IGNORE = -100
ANSWER_WINDOW_FRAMES = 2
"""A turn this many frames after a user turn still answers it, so the turn's end is no negative."""

ROLE_HEADERS = {"system": "System:", "user": "User:", "assistant": "Assistant:", "DST_UPDATE": "DST:"}


@dataclass(frozen=True)
class TurnIds:
    """A turn's ids in their three parts; `body` ends with `<end_of_utterance>` and is what `lm` learns."""

    header: list[int]
    body: list[int]
    end: list[int]

    def __len__(self) -> int:
        return len(self.header) + len(self.body) + len(self.end)


class TokenWriter:
    """Writes ids with the model's own tokenizer; what it writes does not depend on who asks.

    Args:
        tokenizer: a fast Hugging Face tokenizer with SmolVLM2's special tokens.
        tokens_per_frame: K, the `<image>` positions of one frame.

    Raises:
        ConfigError: if the tokenizer lacks a special token, or builds one of plain letters.
    """

    def __init__(self, tokenizer, tokens_per_frame: int):
        self.tokenizer = tokenizer
        self.tokens_per_frame = tokens_per_frame
        self.image_id, self.start_id, self.end_id, self.pad_id = special_ids(tokenizer)
        self._plain = _plain_tokenizer(tokenizer)
        self._check_spelling()
        self._headers = {role: self._text(header) for role, header in ROLE_HEADERS.items()}
        self.newline = self._text("\n")
        self.frame = [self.image_id] * tokens_per_frame
        assert len(self.newline) == 1, "a user turn's last token is its newline"

    def _check_spelling(self) -> None:
        """A tokenizer trained on texts with special tokens in them has learned to build these of letters."""
        special = {self.image_id, self.start_id, self.end_id, self.pad_id}
        built = [name for name in self.tokenizer.convert_ids_to_tokens(sorted(special)) if special & set(self._text(name))]
        if built:
            raise ConfigError(
                f"the model's tokenizer makes a special token of the plain text {', '.join(built)}, in what a user says too; "
                "train it on texts without special tokens"
            )

    def _text(self, text: str) -> list[int]:
        return self._plain.encode(text, add_special_tokens=False).ids

    def header(self, clip: Clip, state: dict[str, str]) -> list[int]:
        """The system turn that opens a sample: prompt, task, steps and the dialog state reached."""
        text = f" {clip.prompt}"
        if clip.goal:
            text += f"\n\nTask: {clip.goal}"
        if clip.steps:
            steps = "".join(f"\n- {step.id}: {step.name}" for step in clip.steps)
            text += f"\nSteps:{steps}\nState: {format_state(state, [step.id for step in clip.steps])}"
        return [self.start_id, *self._headers["system"], *self._text(text), self.end_id, *self.newline]

    def turn(self, role: str, text: str) -> TurnIds:
        """One turn after the opening; header, body and end are tokenized apart."""
        return TurnIds(self._headers[role], [*self._text(f" {text}"), self.end_id], self.newline)


def special_ids(tokenizer) -> list[int]:
    """The ids of `<image>`, `<|im_start|>`, `<end_of_utterance>` and of padding. Raises ConfigError if one is missing."""
    names = ["<image>", "<|im_start|>", "<end_of_utterance>", tokenizer.pad_token]
    vocabulary = tokenizer.get_vocab()
    missing = [name or "a padding token" for name in names if name not in vocabulary]
    if missing:
        raise ConfigError(f"the model's tokenizer lacks {', '.join(missing)}; name a SmolVLM2 in model.name_or_path")
    return [vocabulary[name] for name in names]


def _plain_tokenizer(tokenizer) -> Tokenizer:
    """The same tokenizer without its added tokens: text that spells one, such as "<image>", stays text.

    Called directly it is also several times as fast, and starts no threads before data workers are forked.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**content, "added_tokens": [], "truncation": None, "padding": None}))


@dataclass(slots=True)
class Decision:
    """What the two heads are asked at one decision position: 1, 0, or IGNORE."""

    dst_update: int = 0
    speaking: int = 0


HEAD_ROLES = {"dst_update": "DST_UPDATE", "speaking": "assistant"}


@dataclass(slots=True)
class Group:
    """A frame (absolute index) and the turns right after it, each user turn with its own decision."""

    frame: int
    decision: Decision = field(default_factory=Decision)
    turns: list[Turn] = field(default_factory=list)
    user_decisions: list[Decision] = field(default_factory=list)


def arrange(clip: Clip, frames: str, positive_frames: str, counts: Counter | None = None) -> list[Group]:
    """Order a clip's turns behind their frames and set the decision labels.

    Args:
        frames: `continuous` or `event` (recipe `data.frames`).
        positive_frames: `last` or `all` (recipe `labels.positive_frames`).
        counts: where joined and reordered turns are counted.
    """
    groups = [Group(frame) for frame in frame_list(clip, frames)]
    by_frame = {group.frame: group for group in groups}
    for turn in clip.turns:
        by_frame[turn.frame].turns.append(turn)
    with_turns = [group for group in groups if group.turns]
    for group in with_turns:
        group.turns = _order_outcomes(group.turns, counts if counts is not None else Counter())
        group.user_decisions = [Decision() for turn in group.turns if turn.role == "user"]
    for head, role in HEAD_ROLES.items():
        _label_head(with_turns, head, role)
        if positive_frames == "all":
            _label_ranges(by_frame, with_turns, head, role)
    if not clip.steps:
        # Without steps there is no state that could change or stay: the head is asked nothing.
        for decision in (d for group in groups for d in (group.decision, *group.user_decisions)):
            decision.dst_update = IGNORE
    return groups


def frame_list(clip: Clip, frames: str) -> list[int]:
    """The absolute frames of a clip that are shown (recipe `data.frames`), ascending."""
    if frames == "continuous":
        return list(range(clip.start_frame, clip.end_frame))
    used = {frame for turn in clip.turns for frame in range(turn.first_frame, turn.frame + 1)}
    return sorted(used)


def _order_outcomes(turns: list[Turn], counts: Counter) -> list[Turn]:
    """Between user and system turns: first one DST turn, then one reply; several of a kind are joined."""
    ordered: list[Turn] = []
    outcome: list[Turn] = []
    for turn in [*turns, None]:
        if turn is not None and turn.role in HEAD_ROLES.values():
            outcome.append(turn)
            continue
        ordered += _join_outcome(outcome, counts)
        outcome = []
        if turn is not None:
            ordered.append(turn)
    return ordered


def _join_outcome(outcome: list[Turn], counts: Counter) -> list[Turn]:
    updates = [turn for turn in outcome if turn.role == "DST_UPDATE"]
    replies = [turn for turn in outcome if turn.role == "assistant"]
    if outcome != updates + replies:
        counts["outcomes reordered: the update before the reply"] += 1
    if len(updates) > 1:
        counts["DST_UPDATE turns joined with another of their frame"] += len(updates) - 1
        transitions = tuple(transition for turn in updates for transition in turn.transitions)
        updates = [replace(updates[-1], transitions=transitions, first_frame=min(turn.first_frame for turn in updates))]
    if len(replies) > 1:
        counts["replies joined with another of their frame"] += len(replies) - 1
        text = " ".join(turn.text for turn in replies)
        replies = [replace(replies[-1], text=text, first_frame=min(turn.first_frame for turn in replies))]
    return updates + replies


def _label_head(groups: list[Group], head: str, role: str) -> None:
    """Label the decisions of the groups that have turns; those of the others stay negatives."""
    event_frames = {group.frame for group in groups for turn in group.turns if turn.role == role}
    for group in groups:
        outcomes = _outcome_roles(group.turns)
        happens = [role in outcome for outcome in outcomes]
        is_interrupted = len(outcomes) > 1 or "system" in outcomes[0]
        setattr(group.decision, head, 1 if happens[0] else IGNORE if is_interrupted else 0)
        window = range(group.frame + 1, group.frame + 1 + ANSWER_WINDOW_FRAMES)
        happens_soon = any(frame in event_frames for frame in window)
        for place, decision in enumerate(group.user_decisions, start=1):
            is_answered = happens_soon or any(happens[place + 1 :])
            setattr(decision, head, 1 if happens[place] else IGNORE if is_answered else 0)


def _outcome_roles(turns: Sequence[Turn]) -> list[list[str]]:
    """The roles of what follows the frame, and of what follows each user turn, up to the next decision position."""
    outcomes: list[list[str]] = [[]]
    for turn in turns:
        if turn.role == "user":
            outcomes.append([])
        else:
            outcomes[-1].append(turn.role)
    return outcomes


def _label_ranges(by_frame: dict[int, Group], groups: list[Group], head: str, role: str) -> None:
    """Make every frame of a turn's range a positive, whatever else follows it."""
    for turn in (turn for group in groups for turn in group.turns if turn.role == role):
        for frame in range(turn.first_frame, turn.frame + 1):
            setattr(by_frame[frame].decision, head, 1)


def turn_text(turn: Turn) -> str:
    """What a turn says: an update as JSON, any other as it stands."""
    return format_update(turn.transitions) if turn.role == "DST_UPDATE" else turn.text
