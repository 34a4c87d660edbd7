"""What both formats share as they stand on disk: the keys of a clip, their types, and how faults name them."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import ClipLog
from dst_dist.errors import DataError

MAX_FRAME = 2_000_000
"""Frame numbers above this are a mistake in the data, days beyond any video."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something")
    return text


Name = Annotated[str, Field(min_length=1)]
Text = Annotated[str, AfterValidator(_not_blank)]
FrameNumber = Annotated[int, Field(ge=0, le=MAX_FRAME)]


_SURROGATE = re.compile("[\ud800-\udfff]")


class Raw(BaseModel):
    """A piece of a data file: only the keys that are used, and no conversion of types."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _writable(cls, value: Any) -> Any:
        # JSON can spell half of a surrogate pair, which is no character: it can be neither tokenized nor printed.
        if isinstance(value, str) and _SURROGATE.search(value):
            raise ValueError("must be Unicode text, without halves of surrogate pairs")
        return value


class Descriptions(Raw):
    """What `video_labels` or `metadata` may say about a clip."""

    domain: str | None = None
    task_goal: str | None = None


def _as_object(written: Any) -> dict:
    """Written as an object or as its JSON text; other forms are in use that say nothing of interest here."""
    if isinstance(written, str):
        try:
            written = json.loads(written)
        except (ValueError, RecursionError):
            return {}
    return written if isinstance(written, dict) else {}


class RawHead(Raw):
    """What a clip says apart from its conversation and steps."""

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

    @property
    def clip_id(self) -> str:
        return self.id or f"{self.dataset}/{self.video_uid}/{self.clip_idx}"

    @property
    def domain(self) -> str | None:
        """The video's domain, where its labels or the clip's metadata name one."""
        return self.video_labels.domain or self.metadata.domain


Model = TypeVar("Model", bound=Raw)
Head = TypeVar("Head", bound=RawHead)


def read_head(model: type[Head], raw: dict, log: ClipLog) -> Head | None:
    """The clip's head, or None after its faults were logged."""
    head = validate(model, raw, log)
    if head is None or head.start_frame_idx < head.end_frame_idx:
        return head
    log.fault(
        f"end_frame_idx {head.end_frame_idx} must be above start_frame_idx {head.start_frame_idx}: "
        "the frames are [start, end), without the end"
    )
    return None


def read_turns(models: dict[str, type[Raw]], raw: dict, log: ClipLog) -> list[tuple[str, Any]]:
    """The conversation as (label, turn) pairs, each turn by its role's model, or None after its faults were logged."""
    conversation = raw.get("conversation")
    if not isinstance(conversation, list) or not conversation:
        log.fault(f"`conversation` must be a list of turns, found {shown(conversation)}")
        return []
    labels = [turn_label(number, turn) for number, turn in enumerate(conversation, start=1)]
    return [(label, _read_turn(models, turn, log, label)) for label, turn in zip(labels, conversation, strict=True)]


def _read_turn(models: dict[str, type[Raw]], turn: Any, log: ClipLog, label: str) -> Raw | None:
    role = turn.get("role") if isinstance(turn, dict) else None
    if isinstance(turn, dict) and (not isinstance(role, str) or role not in models):
        log.fault(f"unknown role {shown(role)}; known in this format: {', '.join(models)}", label)
        return None
    return validate(models.get(role, Raw), turn, log, label)


def find_frames(head: RawHead, finder: FramesFinder, log: ClipLog) -> Path | None:
    """The clip's frames file (which may not exist), or None after a fault was logged."""
    try:
        found = finder.find(head.frames_file, head.dataset)
    except DataError as error:
        log.fault(f"frames_file {shown(head.frames_file)} {error}")
        return None
    if found.correction:
        log.count(found.correction, detail=found.path.name)
    return found.path


def validate(model: type[Model], raw: Any, log: ClipLog, turn: str = "", place: str = "") -> Model | None:
    """`raw` as `model`, or None after everything that is wrong with it was logged."""
    if not isinstance(raw, dict):
        log.fault(f"{place or 'a turn'} must be an object, found {shown(raw)}", turn)
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            log.fault(_describe(item, place), turn)
        return None


def clip_label(raw: Any, number: int) -> str:
    """How faults name a clip: its id where it has what one is made of, else its number in the file, from 1."""
    if isinstance(raw, dict):
        parts = [raw.get(key) for key in ("dataset", "video_uid", "clip_idx")]
        if isinstance(raw.get("id"), str):
            return _printable(raw["id"])
        if all(isinstance(part, str | int) for part in parts):
            return _printable("/".join(map(str, parts)))
    return f"number {number}"


def turn_label(number: int, raw: Any) -> str:
    """How faults name a turn: its number in the conversation, from 1, and its role."""
    role = raw.get("role") if isinstance(raw, dict) else None
    return f"turn {number} ({_printable(role[:20])})" if isinstance(role, str) else f"turn {number}"


def shown(value: Any) -> str:
    """A value as faults quote it, shortened."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _describe(item: Any, place: str) -> str:
    key = place
    for part in item["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    key = _printable(key.removeprefix("."))
    if item["type"] == "missing":
        return f"`{key}` is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"`{key}` {message[0].lower()}{message[1:]}, found {shown(item['input'])}"


def _printable(text: str) -> str:
    """JSON can hold halves of surrogate pairs, which no terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode()
