"""`dst-dist evaluate` and `stream`: a run's final model on one split, or one video."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from dst_dist.data.batching import PackedBatch
from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.data.video_input import read_task, read_video
from dst_dist.errors import DataError
from dst_dist.evaluate.baselines import baseline_timelines, decision_baselines, text_baselines
from dst_dist.evaluate.beside import NamedRuns, measured_on, metrics_of_others, read_others
from dst_dist.evaluate.event_metrics import Tallies, tally
from dst_dist.evaluate.finished_run import FinishedRun
from dst_dist.evaluate.intervals import measured
from dst_dist.evaluate.metrics import Metrics
from dst_dist.evaluate.record import clip_record
from dst_dist.evaluate.replies import window_of
from dst_dist.evaluate.results import Result, write_clips, write_result
from dst_dist.evaluate.similarity import Similarity, open_similarity
from dst_dist.evaluate.stream import Streamer, Thresholds, check_openings
from dst_dist.evaluate.teacher_forced import HEADS, TeacherForced, check_finite, evaluation_specs, join_processes, losses, numbered_among, read_model, spread
from dst_dist.evaluate.timeline import Timeline, asked_minutes, delays, gold_timeline, predicted_timeline, timeline_on_the_clock
from dst_dist.evaluate.watch import Watched, tell, tell_clip, watch
from dst_dist.logs import logger
from dst_dist.model.smolvlm_dst import DSTOutput, SmolVLMForDST


def evaluate_run(run_folder: Path, split: str, overrides: Sequence[str] = (), beside: NamedRuns = ()) -> Result | None:
    """Teacher-forced; the main process writes `evaluation/<split>-teacher_forced.json` and returns it (collective).

    Args:
        beside: other runs evaluated in the same way, whose metrics stand among the baselines.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, or if a run beside it was not evaluated, or was in another way.
    """
    others = read_others(beside, split, "teacher_forced")
    run = FinishedRun.open(run_folder, split, overrides)
    recipe, data, processes = run.recipe, run.data, run.processes
    clips = _evaluated(run)
    basis = measured_on(run, clips, "teacher_forced")
    beside_it = metrics_of_others(others, basis, split)
    specs = evaluation_specs(data, run.setup.limits, processes.rank, processes.num_processes, recipe.eval.max_clips)
    read = read_model(_forward_of(run.model), data, specs, processes.device, recipe.data.num_workers, show_progress=processes.is_main)
    assert read is not None
    gathered = processes.gather(read)
    if not processes.is_main:
        return None
    joined = join_processes(gathered)
    check_finite(joined, data)
    columns, clips = numbered_among(joined, spread(len(data.clips.index), recipe.eval.max_clips)), list(clips)
    asked = [asked_minutes(clip) for clip in clips]
    minutes = {head: np.array([of_clip[head] for of_clip in asked]) for head in HEADS}
    measure = TeacherForced(columns, run.thresholds, minutes)
    result = losses(columns, recipe) | measured(measure, clips) | _trained_on(run)
    result["baselines"] = _teacher_forced_baselines(result, clips, minutes, run.training_rates) | beside_it
    result["measured_on"] = basis
    result["curves"] = measure.curves()
    write_result(run_folder, split, "teacher_forced", result)
    return result


def stream_run(
    run_folder: Path, split: str, overrides: Sequence[str] = (), beside: NamedRuns = (), on_the_clock: bool = False
) -> Result | None:  # fmt: skip
    """Stream every clip of a split from its own start; the main process writes `evaluation/<split>-streaming.json`, and
    what happened in each clip into `<split>-streaming-clips.jsonl`, and returns the first (collective).

    Args:
        beside: as in `evaluate_run`.
        on_the_clock: one video at a time, and also measured as if frames went on arriving while the model works.

    Raises:
        ConfigError, DataError: as `evaluate_run`, or if the recipe's contexts are longer than the model can read.
    """
    others = read_others(beside, split, "streaming")
    run = FinishedRun.open(run_folder, split, overrides)
    basis = measured_on(run, _evaluated(run), "streaming")
    beside_it = metrics_of_others(others, basis, split)
    similarity = open_similarity(run.recipe.eval.similarity, run.model.device)
    _check_for_streaming(run)
    check_openings(run.data.clips.index, run.data.maker)
    streams = _watch_all(run, 1 if on_the_clock else run.recipe.eval.num_streams)
    if streams is None:
        return None
    gold, predicted = [gold_timeline(one.clip) for one in streams], [predicted_timeline(one) for one in streams]
    similarity.prepare([text for timeline in (*gold, *predicted) for _, text in timeline.replies])
    result = _streaming_result(run, streams, gold, predicted, similarity)
    if on_the_clock:
        delayed = [timeline_on_the_clock(one) for one in streams]
        result["on_the_clock"] = _streaming_result(run, streams, gold, delayed, similarity) | delays(streams)
    result |= _trained_on(run)
    result["counts"] = dict(sum((one.counts for one in streams), Counter()))
    for kind, number in result["counts"].items():
        logger.info("%s, streamed: %d %s", split, number, kind)
    result["reply/similarity"] = similarity.name
    result["reply/windows"] = {one.clip.dataset: vars(window_of(one.clip.dataset)) for one in streams}
    result["baselines"] = _streaming_baselines(run, [one.clip for one in streams], gold) | beside_it
    result["measured_on"] = basis
    tolerance_s = run.recipe.eval.tolerance_s
    records = [clip_record(*of_clip, run.thresholds, tolerance_s, similarity) for of_clip in zip(streams, gold, predicted, strict=True)]
    write_clips(run_folder, split, records)
    write_result(run_folder, split, "streaming", result)
    return result


def _streaming_result(
    run: FinishedRun, streams: Sequence[Watched], gold: Sequence[Timeline], written: Sequence[Timeline], similarity: Similarity
) -> Result:  # fmt: skip
    """What was written against what was told, clip by clip and over all."""
    tolerance_s = run.recipe.eval.tolerance_s
    parts = zip(streams, gold, written, strict=True)
    tallies = [tally(one.clip, told, timeline, tolerance_s, one, similarity) for one, told, timeline in parts]
    return measured(Tallies(tallies), [one.clip for one in streams])


def _streaming_baselines(run: FinishedRun, clips: Sequence[Clip], gold: Sequence[Timeline]) -> dict[str, Metrics]:
    """They have nothing to say, so their replies are not compared."""
    tolerance_s, every = run.recipe.eval.tolerance_s, np.ones(len(clips))
    return {
        name: Tallies([tally(*of_clip, tolerance_s) for of_clip in zip(clips, gold, timelines, strict=True)])(every)
        for name, timelines in baseline_timelines(clips, gold, run.training_rates).items()
    }


def stream_video(run_folder: Path, split: str, video: str, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Show a run's final model one video frame by frame; yields lines for people.

    Args:
        video: name of a frames file, or the end of its path below the data root. Its clips give the tasks and what
            the user says.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, or if the split has no such video.
    """
    run = FinishedRun.open(run_folder, split, overrides)
    _check_for_streaming(run)
    for clip in _clips_of(video, run.data.clips.index, split):
        yield from tell_clip(_streamer(run, clip), run.data)


def stream_file(run_folder: Path, video: Path, task: Path, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Show a run's final model a video from outside the data, as it comes; yields lines for people. Needs no data.

    Args:
        video, task: as `read_video` and `read_task` want them.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, `read_video` and `read_task`.
    """
    clip = read_task(task)
    run = FinishedRun.open(run_folder, None, overrides)
    _check_for_streaming(run)
    yield f"{clip.fps:g} frames a second, {'with the prompt of the task' if clip.prompt else 'without a prompt: the task gives none'}"
    yield from tell(_streamer(run, clip), read_video(video, clip.fps, run.setup.model_files.image_size))


def _clips_of(video: str, clips: Iterable[Clip], split: str) -> list[Clip]:
    """The clips of the one video whose path ends in this name. Raises DataError if there is none, or there are several."""
    wanted = PurePosixPath(video.removesuffix(".arrow")).parts
    names = {clip.video: PurePosixPath(clip.video.removesuffix(".arrow")).parts for clip in clips}
    found = [name for name, parts in names.items() if parts[len(parts) - len(wanted) :] == wanted]
    if not found:
        known = ", ".join(sorted({parts[-1] for parts in names.values()})[:5])
        raise DataError(f"no clip of a video {video} in data.{split}; there are {known}, ...")
    if len(found) > 1:
        raise DataError(f"{len(found)} videos of data.{split} are called {video}: {', '.join(sorted(found)[:5])}; say more of the path")
    return [clip for clip in clips if clip.video == found[0]]


def _check_for_streaming(run: FinishedRun) -> None:
    """Raises ConfigError for contexts that grow longer than the model can read, whatever it was trained on."""
    run.setup.check_context(run.setup.maker().limits.tokens, "a stream fills contexts of")
    if run.recipe.data.frames == "event":
        logger.warning("the model learned from the frames of turns alone (data.frames: event); a stream shows it every frame")


def _trained_on(run: FinishedRun) -> dict[str, int]:
    return {} if run.num_videos_trained_on is None else {"num_videos_trained_on": run.num_videos_trained_on}


def _streamer(run: FinishedRun, task: Clip) -> Streamer:
    return Streamer(run.model, task, run.setup.maker(), Thresholds(**run.thresholds), run.recipe.eval.on_full_context)


def _evaluated(run: FinishedRun) -> ClipIndex:
    """The clips of the split, or as many of them as `eval.max_clips` says."""
    index = run.data.clips.index
    return index.subset(spread(len(index), run.recipe.eval.max_clips).tolist())


def _watch_all(run: FinishedRun, num_streams: int) -> list[Watched] | None:
    """Every clip once, on whichever process; in their order on the main process, None on the others (collective)."""
    clips, processes = _evaluated(run), run.processes
    mine = processes.share_of(clips)
    shown = tqdm(watch(run, [clips[position] for position in mine], num_streams), "stream", len(mine), leave=False, disable=None if processes.is_main else True)
    gathered = processes.gather(dict(zip(mine, shown, strict=True)))
    if not processes.is_main:
        return None
    watched = {position: one for of_process in gathered for position, one in of_process.items()}
    return [watched[position] for position in range(len(clips))]


def _forward_of(model: SmolVLMForDST):
    def forward(batch: PackedBatch) -> DSTOutput:
        return model(batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions)

    return forward


def _teacher_forced_baselines(
    metrics: Metrics, clips: Sequence[Clip], minutes: Mapping[str, np.ndarray], rates: Mapping[str, float] | None
) -> dict[str, Metrics]:  # fmt: skip
    baselines: dict[str, Metrics] = {}
    parts = [text_baselines(clips), *(decision_baselines(metrics, head, float(minutes[head].sum()), rates and rates[head]) for head in HEADS)]
    for part in parts:
        for name, values in part.items():
            baselines[name] = baselines.get(name, {}) | values
    return baselines
