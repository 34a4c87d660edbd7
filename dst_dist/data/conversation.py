"""From a clip to tokens and labels: one layout for training, evaluation and streaming.

A clip becomes a list of `Group`s, one a frame, in time order: the frame's tokens, then the turns
anchored there. `TokenWriter` writes ids; `arrange` orders turns and decides what each decision
position is asked for. Lengths, splits and samples are all made of groups.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.state import format_state, format_update

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
    """

    def __init__(self, tokenizer, tokens_per_frame: int):
        self.tokenizer = tokenizer
        self.tokens_per_frame = tokens_per_frame
        self.image_id = tokenizer.convert_tokens_to_ids("<image>")
        self.start_id = tokenizer.convert_tokens_to_ids("<|im_start|>")
        self.end_id = tokenizer.convert_tokens_to_ids("<end_of_utterance>")
        self.pad_id = tokenizer.pad_token_id
        self.newline = self._text("\n")
        self.frame = [self.image_id] * tokens_per_frame
        assert len(self.newline) == 1, "a user turn's last token is its newline"

    def _text(self, text: str) -> list[int]:
        # Text that spells a special token, such as "<image>", stays text.
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def header(self, clip: Clip, state: dict[str, str]) -> list[int]:
        """The system turn that opens a sample: prompt, task, steps and the dialog state reached."""
        text = f" {clip.prompt}"
        if clip.goal:
            text += f"\n\nTask: {clip.goal}"
        if clip.steps:
            steps = "".join(f"\n- {step.id}: {step.name}" for step in clip.steps)
            text += f"\nSteps:{steps}\nState: {format_state(state, [step.id for step in clip.steps])}"
        return [self.start_id, *self._text(ROLE_HEADERS["system"]), *self._text(text), self.end_id, *self.newline]

    def turn(self, role: str, text: str) -> TurnIds:
        """One turn after the opening; header, body and end are tokenized apart."""
        return TurnIds(self._text(ROLE_HEADERS[role]), [*self._text(f" {text}"), self.end_id], self.newline)


@dataclass
class Decision:
    """What the two heads are asked at one decision position: 1, 0, or IGNORE."""

    dst_update: int = 0
    speaking: int = 0


HEAD_ROLES = {"dst_update": "DST_UPDATE", "speaking": "assistant"}


@dataclass
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
    groups = [Group(frame) for frame in _frame_list(clip, frames)]
    by_frame = {group.frame: group for group in groups}
    for turn in clip.turns:
        by_frame[turn.frame].turns.append(turn)
    for group in groups:
        group.turns = _order_outcomes(group.turns, counts if counts is not None else Counter())
        group.user_decisions = [Decision() for turn in group.turns if turn.role == "user"]
    for head, role in HEAD_ROLES.items():
        _label_head(groups, head, role, positive_frames)
    if not clip.has_dst:
        for decision in (d for group in groups for d in (group.decision, *group.user_decisions)):
            decision.dst_update = IGNORE
    return groups


def _frame_list(clip: Clip, frames: str) -> list[int]:
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


def _label_head(groups: list[Group], head: str, role: str, positive_frames: str) -> None:
    events = [group.frame for group in groups for turn in group.turns if turn.role == role]
    for group in groups:
        _label_group(group, head, role, events)
    if positive_frames == "all":
        turns = [turn for group in groups for turn in group.turns if turn.role == role]
        positive = {frame for turn in turns for frame in range(turn.first_frame, turn.frame + 1)}
        for group in groups:
            if group.frame in positive:
                setattr(group.decision, head, 1)


def _label_group(group: Group, head: str, role: str, events: Sequence[int]) -> None:
    """Walk the decision positions of one group; the outcome of each ends at a user or system turn."""
    answered_later = bool(group.user_decisions) and any(
        0 < frame - group.frame <= ANSWER_WINDOW_FRAMES for frame in events
    )
    user_decisions = iter(group.user_decisions)
    decision: Decision | None = group.decision
    for turn in group.turns:
        if turn.role == role and decision is not None:
            setattr(decision, head, 1)
        elif turn.role in ("user", "system"):
            if decision is not None and getattr(decision, head) != 1:
                setattr(decision, head, IGNORE)
            decision = next(user_decisions) if turn.role == "user" else None
    if decision is not None and decision is not group.decision and answered_later and getattr(decision, head) != 1:
        setattr(decision, head, IGNORE)


def turn_text(turn: Turn) -> str:
    """What a turn says: an update as JSON, any other as it stands."""
    return format_update(turn.transitions) if turn.role == "DST_UPDATE" else turn.text
