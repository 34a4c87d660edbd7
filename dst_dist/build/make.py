"""`dst-dist build`: from raw dialogs to clip files below a data root."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dst_dist.build.align import Costs
from dst_dist.build.dialogs import Conversation, Turn, Video, read_dialogs
from dst_dist.build.evidence import Evidence, read_evidence
from dst_dist.build.matching import Matches, Task, match, read_task
from dst_dist.build.proposals import Proposer
from dst_dist.build.rates import Rate, find_rate
from dst_dist.build.sessions import with_whole_sessions
from dst_dist.build.similarity import TFIDF, Similarity, open_similarity
from dst_dist.build.spans import Change, find_changes
from dst_dist.build.speech import read_sentences
from dst_dist.build.steps import Step, lines_without_step, read_steps
from dst_dist.build.turns import cut, in_order, place_turns
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.reading_log import Report
from dst_dist.errors import ConfigError, DataError, collect
from dst_dist.files import write_whole

SPOKEN_WORTH = 0.5
"""Weight of a step that is only spoken of in the alignment's score, next to one with annotated lines."""


@dataclass(frozen=True)
class Aligned:
    """A dialog with what was found about it. `score` is the alignment's own, from 0 to 10."""

    id: str
    video: Video
    conversation: Conversation
    task: Task
    matches: Matches
    changes: Sequence[Change]
    score: float


@dataclass(frozen=True)
class Built:
    """The clips of each file by its path below the root, the dialogs they come from, and what was counted."""

    files: dict[str, list[dict[str, Any]]]
    dialogs: list[Aligned]
    report: Report


def build(
    paths: Sequence[Path],
    out: Path,
    fps: float | None = None,
    similarity: str = TFIDF,
    clip_s: float | None = None,
    proposer: Proposer | None = None,
) -> Built:
    """Write the clips of raw dialogs as `<out>/<dataset>/<split>_training.json`, each file replaced as a whole.

    Args:
        paths: files of generated dialogs.
        out: the data root; frames files that are there already are looked at for their rate and length.
        fps: rows a second of all frames files; None to find out for each video.
        similarity: `tfidf`, or a sentence-transformers model.
        clip_s: longest clip in seconds; None for one clip a dialog.
        proposer: a language model that is asked about the lines too.

    Raises:
        DataError: with all faults of all files, before anything is written.
        ConfigError: if the similarity cannot be used, no clip is left, or `out` cannot be written to.
    """
    compare, report = open_similarity(similarity), Report()
    videos = _together(with_whole_sessions(read_dialogs(paths, report), report), report)
    rates = _find_rates(videos, out, fps, report)
    files: dict[str, list[dict[str, Any]]] = {}
    dialogs, seen = [], set()
    for video in videos:
        for dialog in _align_dialogs(video, compare, proposer, seen, report):
            clips = make_clips(dialog, rates[video.frames_file], clip_s, report)
            files.setdefault(f"{video.dataset}/{video.split}_training.json", []).extend(clips)
            dialogs.append(dialog)
    files = {name: clips for name, clips in files.items() if clips}
    if not files:
        raise ConfigError(["no clip is left of these dialogs; nothing was written", *report.lines()])
    for name, clips in files.items():
        write_result(out / name, json.dumps(clips, ensure_ascii=False, indent=1) + "\n")
    _count_others(out, files, report)
    return Built(files, dialogs, report)


def write_result(path: Path, text: str) -> None:
    """Write a file below `--out`. Raises ConfigError if that cannot be done."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(
            f"--out: {path} cannot be written ({error.filename}: {error.strerror}); name another folder"
        ) from error


def _count_others(out: Path, files: Collection[str], report: Report) -> None:
    """Count the clip files of the same datasets that an earlier call has written and this one has not."""
    for dataset in dict.fromkeys(name.partition("/")[0] for name in files):
        for path in sorted((out / dataset).glob("*_training.json")):
            if f"{dataset}/{path.name}" not in files:
                report.count("files of these datasets from an earlier call, which stay as they are", str(path))


def _find_rates(videos: Sequence[Video], out: Path, fps: float | None, report: Report) -> dict[str, Rate]:
    """Return the rate of each frames file. Raises DataError with all that cannot be used."""
    finder, faults = FramesFinder(out), []
    files = {video.frames_file: video for video in videos}
    rates = {name: collect(faults, partial(find_rate, video, finder, fps, report)) for name, video in files.items()}
    if faults:
        raise DataError(faults)
    return rates


def _together(videos: Sequence[Video], report: Report) -> list[Video]:
    """Return the videos, each with the place of its first dialog among all of its uid; uids that repeat are counted.

    Each keeps its own steps and annotations: they may differ between two files.
    """
    known: dict[tuple[str, str], Video] = {}
    num_dialogs: Counter[tuple[str, str]] = Counter()
    placed = []
    for video in videos:
        uid, one = (video.dataset, video.uid), video.written
        first = known.setdefault(uid, video).written
        if first is not one:
            told = [(written.inferred_knowledge, written.parsed_video_anns) for written in (first, one)]
            kind = "their dialogs put together" if told[0] == told[1] else "with steps or annotations of their own"
            report.count(f"videos that stand several times, {kind}", "/".join(uid))
        placed.append(replace(video, first_place=num_dialogs[uid]))
        num_dialogs[uid] += len(one.conversations)
    return placed


def _align_dialogs(
    video: Video, similarity: Similarity, proposer: Proposer | None, seen: set[tuple], report: Report
) -> list[Aligned]:
    """Return the dialogs of a video that can be used; ids keep the place in the list, whatever is left out.

    Args:
        seen: contents of all dialogs before, to which those of this video are added.
    """
    name, knowledge = f"{video.dataset}/{video.uid}", video.written.inferred_knowledge
    steps = read_steps(knowledge)
    if not steps:
        report.count("videos without numbered steps, left out", name)
        return []
    for line in lines_without_step(knowledge, steps):
        report.count("numbered lines that begin no step", f"{name}: {line}")
    evidence = read_evidence(video.annotations.all_step_descriptions)
    for line in evidence.not_understood:
        report.count("lines whose time in brackets was not understood, taken as without a time", f"{name}: {line}")
    task = read_task(steps, evidence, similarity)
    if proposer is not None:
        task = proposer.advise(task, name, report)
    aligned = []
    for place, conversation in enumerate(video.written.conversations, start=video.first_place):
        turns = _usable_turns(conversation, f"{name}/{place}", report)
        key = name, knowledge, *((turn.role, turn.time, turn.content) for turn in turns)
        if turns and key in seen:
            report.count("dialogs equal to another of the video, left out", f"{name}/{place}")
        elif turns:
            spoken = conversation.model_copy(update={"conversation": turns})
            aligned.append(align_dialog(video, spoken, f"{name}/{place}", task, similarity))
        seen.add(key)
    return aligned


def _usable_turns(conversation: Conversation, name: str, report: Report) -> list[Turn]:
    """Return the turns of a dialog that say something, in order; what was left out or moved is counted."""
    turns = [turn for turn in conversation.conversation if turn.content.strip()]
    if len(turns) < len(conversation.conversation):
        report.count("dialogs with blank turns, which were left out", name)
    if not turns:
        report.count("dialogs without turns, left out", name)
    return in_order(turns, name, report)


def align_dialog(
    video: Video, conversation: Conversation, name: str, task: Task, similarity: Similarity, costs: Costs | None = None
) -> Aligned:
    """Return what a dialog's evidence says about its steps."""
    said = [*conversation.conversation, *_only_annotated(conversation, task.evidence)]
    sentences = read_sentences(sorted(said, key=lambda turn: turn.time))
    matches = match(task, sentences, similarity, costs or Costs())
    changes = find_changes(matches, task.untimed)
    return Aligned(name, video, conversation, task, matches, changes, _score(task.steps, matches))


def _only_annotated(conversation: Conversation, evidence: Evidence) -> list[Turn]:
    """Return the utterances that stand among the annotations, but for those that the dialog has at their time too."""
    times = [turn.time for turn in conversation.conversation]
    return [said for said in evidence.said if all(abs(said.time - time) > 1.0 for time in times)]


def _score(steps: Sequence[Step], matches: Matches) -> float:
    """Return ten times the mean over steps of the best similarity of its evidence; what is only spoken counts half."""
    best = dict.fromkeys(range(len(steps)), 0.0)
    for cue in matches.tells:
        best[cue.step] = max(best[cue.step], SPOKEN_WORTH * cue.similarity)
    for run in matches.runs:
        best[run.step] = max(best[run.step], run.similarity)
    return round(10 * sum(min(1.0, value) for value in best.values()) / len(steps), 3)


def make_clips(dialog: Aligned, rate: Rate, clip_s: float | None, report: Report) -> list[dict[str, Any]]:
    """Return the clips of a dialog, of `clip_s` seconds or whole; turns without a frame are left out, and counted."""
    video, written = dialog.video, dialog.video.written
    turns, num_beyond = place_turns(dialog.conversation.conversation, dialog.changes, dialog.task.steps, rate)
    if num_beyond:
        report.count("turns beyond the end of the frames file, left out", f"{num_beyond} of {dialog.id}", num_beyond)
    if not turns:
        report.count("dialogs whose turns are all beyond the frames file, left out", dialog.id)
        return []
    start = min(rate.frame(video.annotations.video_start_time or 0.0), turns[0]["frame"])
    length = max(1, rate.frame(clip_s)) if clip_s is not None else None
    head = {
        "dataset": video.dataset,
        "video_uid": video.uid,
        "inferred_goal": written.inferred_goal,
        "inferred_knowledge": written.inferred_knowledge,
        "video_labels": written.video_labels or {},
        "frames_file": video.frames_file,
        "fps": rate.fps,
        "dst": _declared(dialog),
        "quality": dialog.conversation.auto_quality_eval and dialog.conversation.auto_quality_eval.final_score,
        "metadata": _metadata(dialog),
    }
    return [
        {"id": f"{dialog.id}/{number}", "clip_idx": number, **head, **clip}
        for number, clip in enumerate(cut(turns, start, length))
    ]


def _declared(dialog: Aligned) -> list[dict[str, Any]]:
    declared = []
    for place, step in enumerate(dialog.task.steps):
        own = [change for change in dialog.changes if change.step == place]
        starts = [change.time for change in own if change.transition == "start"]
        ends = [change.time for change in own if change.transition in ("complete", "cancel")]
        times = {"start_ts": min(starts, default=None), "end_ts": max(ends, default=None)}
        declared.append({"type": "step", "id": step.id, "name": step.name, **times})
    return declared


def _metadata(dialog: Aligned) -> dict[str, Any]:
    user_type = dialog.conversation.user_type
    return {
        "user_type": user_type,
        "user_id": f"{user_type}_{dialog.id.rsplit('/', 1)[1]}",
        "task_goal": dialog.video.written.inferred_goal,
        "domain": dialog.video.annotations.domain,
        "evidence": "lines" if dialog.task.evidence.lines else "speech",
        "alignment_score": dialog.score,
    }
