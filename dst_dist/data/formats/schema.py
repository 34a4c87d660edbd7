"""Has what both clip formats share: a clip's keys and their types, the wording of faults, and the finished clip."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from dst_dist.data.clips import Clip, Turn
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import ClipLog
from dst_dist.errors import DataError

MAX_FRAME = 2_000_000
"""Frame numbers above this are a mistake in the data: at 2 frames a second they are days into a video."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something")
    return text


Name = Annotated[str, Field(min_length=1)]
Text = Annotated[str, AfterValidator(_not_blank)]
FrameNumber = Annotated[int, Field(ge=0, le=MAX_FRAME)]


class Raw(pydantic.BaseModel):
    """A piece of a data file: the keys that are used, without conversion of types."""

    # JSON can spell half of a surrogate pair, which is no character: it can be neither tokenized nor printed. Texts
    # whose length has a limit are refused for it.
    model_config = pydantic.ConfigDict(
        extra="ignore", strict=True, frozen=True, allow_inf_nan=False, str_max_length=1 << 40
    )


def _is_number(written: Any) -> Any:
    """Return a finite number as it is, None for any other value, which is not used here."""
    return written if type(written) in (int, float) and math.isfinite(written) else None


Stated = Annotated[float | None, BeforeValidator(_is_number)]
"""A number that a clip may state, and that is only compared with what is counted here."""


class RawTurn(Raw):
    """A turn; `read_turns` chooses its model by its role."""

    role: str
    time: Stated = None


class Descriptions(Raw):
    """The keys of `video_labels` and `metadata` that are used."""

    domain: str | None = None
    task_goal: str | None = None


def _as_object(written: Any) -> dict:
    """Return an object, or the JSON text of one, as a dict; an empty one for other values, which are not used here."""
    if isinstance(written, str):
        try:
            written = json.loads(written)
        except (ValueError, RecursionError):
            return {}
    return written if isinstance(written, dict) else {}


class RawHead(Raw):
    """The keys of a clip apart from its conversation and steps. `seq_len` and the two behind it are only compared."""

    id: Name | None = None
    dataset: Name
    video_uid: Name
    clip_idx: int
    frames_file: Name
    start_frame_idx: FrameNumber
    end_frame_idx: FrameNumber
    fps: Annotated[float, Field(gt=0)]
    video_labels: Annotated[Descriptions, BeforeValidator(_as_object)] = Descriptions()
    metadata: Annotated[Descriptions, BeforeValidator(_as_object)] = Descriptions()
    seq_len: Stated = None
    max_seq_len: Stated = None
    num_tokens_per_img: Stated = None

    @field_validator("end_frame_idx")
    @classmethod
    def _is_not_empty(cls, end: int, others: pydantic.ValidationInfo) -> int:
        start = others.data.get("start_frame_idx")
        if start is not None and end <= start:
            raise ValueError(f"must be above start_frame_idx {start}: the frames are [start, end), without the end")
        return end

    def contains(self, start: int, end: int) -> bool:
        """Return whether the frames [start, end) are a part of the clip, and not empty."""
        return self.start_frame_idx <= start < end <= self.end_frame_idx

    def check_range(self, start: int, end: int, log: ClipLog, label: str) -> bool:
        """Return `contains`, after a fault of the turn was logged if it is false."""
        if self.contains(start, end):
            return True
        log.fault(
            f"frames [{start}, {end}) must be a part, not empty, of the clip's [{self.start_frame_idx}, "
            f"{self.end_frame_idx}); frames are counted from the start of the video",
            label,
        )
        return False


Turns = Sequence[tuple[str, Any]]
"""(label, raw turn) pairs; the label names the turn in messages."""
Model = TypeVar("Model", bound=Raw)


def read_turns(models: dict[str, type[RawTurn]], raw: dict, log: ClipLog) -> tuple[Turns, bool]:
    """Return the turns without faults, each by its role's model, and whether these are all; faults are logged."""
    conversation = raw.get("conversation")
    if not isinstance(conversation, list) or not conversation:
        log.fault(f"`conversation` must be a list of turns, found {shown(conversation)}")
        return [], False
    turns = [_read_turn(models, number, turn, log) for number, turn in enumerate(conversation, start=1)]
    good = [(label, turn) for label, turn in turns if turn is not None]
    return good, len(good) == len(turns)


def _read_turn(models: dict[str, type[RawTurn]], number: int, turn: Any, log: ClipLog) -> tuple[str, RawTurn | None]:
    role = turn.get("role") if isinstance(turn, dict) else None
    label = f"turn {number} ({role[:20]})" if isinstance(role, str) else f"turn {number}"
    if isinstance(turn, dict) and (not isinstance(role, str) or role not in models):
        log.fault(f"unknown role {shown(role)}; known in this format: {', '.join(models)}", label)
        return label, None
    return label, validate(models.get(role, RawTurn), turn, log, label)


def spoken_texts(turns: Turns) -> list[str]:
    """Return the texts of the turns that have one, and no list of transitions."""
    return [turn.content for _, turn in turns if isinstance(getattr(turn, "content", None), str)]


def split_prompt(turns: Turns) -> tuple[str, Turns]:
    """Return the text of the system turns before all others, and the other turns."""
    spoken = list(itertools.dropwhile(lambda pair: pair[1].role == "system", turns))
    return "\n".join(turn.content for _, turn in turns[: len(turns) - len(spoken)]), spoken


def make_clip(
    head: RawHead,
    turns: Turns,
    anchor: Callable[[Any, Turns, ClipLog], tuple[Turn, ...]],
    finder: FramesFinder,
    log: ClipLog,
    **fields: Any,
) -> Clip | None:
    """Return the clip, or None if it has faults.

    Args:
        turns: those after the prompt.
        anchor: gives them their frames.
        fields: the fields of Clip that the formats write in ways of their own.
    """
    try:
        path, correction = finder.find(head.frames_file, head.dataset)
    except DataError as error:
        log.shared_fault(f"frames_file {shown(head.frames_file)} {error}")
    if log.failed:
        return None
    if correction:
        log.count(correction, detail=path.name)
    return Clip(
        id=log.clip,
        dataset=head.dataset,
        domain=head.video_labels.domain or head.metadata.domain,
        video=path.relative_to(finder.root).as_posix(),
        frames_path=str(path),
        start_frame=head.start_frame_idx,
        end_frame=head.end_frame_idx,
        fps=head.fps,
        turns=anchor(head, turns, log),
        **fields,
    )


def validate(model: type[Model], raw: Any, log: ClipLog, place: str = "") -> Model | None:
    """Return `raw` as `model`, or None after all its faults were logged."""
    if not isinstance(raw, dict):
        log.fault(f"must be an object, found {shown(raw)}", place)
        return None
    try:
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        for item in error.errors(include_url=False):
            log.fault(_describe(item), place)
        return None


def _describe(item: Any) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).removeprefix(".")
    if item["type"] == "missing":
        return f"`{key}` is missing"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "string_unicode":
        message = "must be Unicode text, without halves of surrogate pairs"
    return f"`{key}` {message[0].lower()}{message[1:]}, found {shown(item['input'])}"


def clip_label(raw: Any, number: int) -> str:
    """Return the id of a clip: its own, else one made of its keys, else its number in the file, from 1."""
    if isinstance(raw, dict):
        parts = [raw.get(key) for key in ("dataset", "video_uid", "clip_idx")]
        if isinstance(raw.get("id"), str):
            return raw["id"]
        if all(isinstance(part, str | int) for part in parts):
            return "/".join(map(str, parts))
    return f"number {number}"


def shown(value: Any) -> str:
    """Return a value as faults quote it: printable and at most 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
