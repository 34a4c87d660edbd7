"""Reads ProAssist's generated dialogs, and says everything that is wrong with them at once."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from dst_dist.data.formats.schema import Name, Raw, shown, validate
from dst_dist.data.frames import SUFFIX
from dst_dist.data.reading_log import ClipLog, FileFaults, Report
from dst_dist.errors import DataError

SPLITS = ("train", "val", "test")
NO_SPLIT = "files that name no split, nor does their folder, taken as train"
NO_DATASET = "dialogs"
"""Folder of the dialogs that neither their annotations nor their path put into a dataset."""
_SPLIT_NAME = re.compile(r"(?:(train)|(val(?:id(?:ation)?)?)|(test))(?![A-Za-z])", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_OLD_NAMES = {"ego4d-goalstep": "ego4d"}


def _file_name(text: str) -> str:
    if "/" in text or "\0" in text or text in (".", ".."):
        raise ValueError("must be usable as the name of a file")
    return text


FileName = Annotated[Name, AfterValidator(_file_name)]
MOST_S = 1_000_000
"""Latest time of a turn in seconds; a frame number that the reader refuses begins there, at 2 rows a second."""
Seconds = Annotated[float, Field(ge=0, le=MOST_S)]


class Turn(Raw):
    """Something said at a time, in seconds of the video: a turn of a raw dialog, or among the annotations.

    `labels` are ProAssist's.
    """

    role: Literal["user", "assistant"]
    time: Seconds
    content: str
    labels: str | None = None


class _Quality(Raw):
    final_score: float | None = None


class Conversation(Raw):
    """A dialog of a video."""

    conversation: list[Turn]
    user_type: str = ""
    auto_quality_eval: _Quality | None = None


class Annotations(Raw):
    """Annotations of a video; `fps` is the source video's, not the frames file's."""

    dataset: FileName | None = None
    domain: str | None = None
    all_step_descriptions: str = ""
    duration: float | None = None
    video_start_time: Seconds | None = None
    fps: Annotated[float, Field(gt=0)] | None = None


class Written(Raw):
    """A video as a file has it."""

    video_uid: FileName
    inferred_goal: str
    inferred_knowledge: str
    video_labels: dict[str, Any] | None = None
    conversations: list[Conversation]
    parsed_video_anns: Annotations | None = None


@dataclass(frozen=True)
class Video:
    """A video with its dialogs, as a file has it, and where it belongs."""

    written: Written
    dataset: str
    split: str
    first_place: int = 0
    """Place of its first dialog among all dialogs of its uid."""

    @property
    def uid(self) -> str:
        return self.written.video_uid

    @property
    def annotations(self) -> Annotations:
        return self.written.parsed_video_anns or Annotations()

    @property
    def frames_name(self) -> str:
        """Name of the video's frames file, without its ending."""
        if self.dataset == "ego4d":
            return self.uid.removeprefix("grp-")
        return self.uid.partition("_")[2] or self.uid if self.dataset == "assembly101" else self.uid

    @property
    def frames_file(self) -> str:
        """Path of the video's frames file below the data root."""
        return f"{self.dataset}/frames/{self.frames_name}{SUFFIX}"


def read_dialogs(paths: Sequence[Path], report: Report) -> list[Video]:
    """Return the videos of all files, in order; what was left out or mended is counted.

    A file's name or its folder's begins with its split, else it is `train`, which is counted. The dataset is that of
    the annotations, else the folder above `generated_dialogs`.

    Raises:
        DataError: with the faults of all files.
    """
    lines: list[str] = []
    videos = []
    for path in dict.fromkeys(paths):
        faults, split = FileFaults(str(path)), _split(path)
        if split is None:
            report.count(NO_SPLIT, str(path))
        for number, raw in enumerate(_load(path, faults), start=1):
            label = raw.get("video_uid") if isinstance(raw, dict) else None
            log = ClipLog(label if isinstance(label, str) else f"number {number}", faults, report)
            if isinstance(raw, dict) and raw.keys() == {"reason_to_exclude"}:
                report.count("videos left out, as their file says", f"{path}: {shown(raw['reason_to_exclude'])}")
            elif written := validate(Written, _mend(raw, log), log):
                videos.append(Video(written, _dataset(written, path), split or "train"))
        lines += faults.lines()
    if lines:
        raise DataError(lines)
    return videos


def _load(path: Path, faults: FileFaults) -> list[Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        faults.add(f"cannot be read: {error.strerror}; name a file of generated dialogs")
        return []
    except UnicodeDecodeError as error:
        faults.add(f"not UTF-8 text ({error.reason} at byte {error.start}); is it compressed, or in another encoding?")
        return []
    except (ValueError, RecursionError) as error:
        faults.add(f"is not valid JSON: {error}; is the file complete?")
        return []
    return raw if isinstance(raw, list) else [raw]


def _mend(value: Any, log: ClipLog) -> Any:
    """Return a value of JSON with halves of surrogate pairs replaced, and counted."""
    if isinstance(value, dict):
        return {key: _mend(part, log) for key, part in value.items()}
    if isinstance(value, list):
        return [_mend(part, log) for part in value]
    if isinstance(value, str) and _SURROGATE.search(value):
        log.count("texts with half a character, which was replaced")
        return _SURROGATE.sub("\ufffd", value)
    return value


def _split(path: Path) -> str | None:
    """Return the split that a file's name begins with, or else its folder's; None if neither does.

    The folder counts only as far as the user wrote it: the place of a project, such as `test_x`, says nothing.
    """
    found = _SPLIT_NAME.match(path.name) or _SPLIT_NAME.match(path.parent.name)
    return SPLITS[found.lastindex - 1] if found else None


def _dataset(written: Written, path: Path) -> str:
    annotations = written.parsed_video_anns
    if annotations and annotations.dataset:
        return _OLD_NAMES.get(annotations.dataset, annotations.dataset)
    folders = path.absolute().parts
    if "generated_dialogs" in folders[1:]:
        return folders[folders.index("generated_dialogs", 1) - 1] or NO_DATASET
    return NO_DATASET
