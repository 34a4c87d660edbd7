"""`dst-dist evaluate` measures a run's final model on one split, with the gold history or streamed."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dst_dist.data.batching import PackedBatch
from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.evaluate.clip_records import clip_record
from dst_dist.evaluate.compare import NamedRuns, measured_on, metrics_of_others, read_others
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.evaluate.results import Result, write_clips, write_result
from dst_dist.file_system import WRITES, try_folder
from dst_dist.heads import HEAD_NAMES
from dst_dist.logs import logger
from dst_dist.measure import baselines, events, timeline
from dst_dist.measure.intervals import measured
from dst_dist.measure.replies import window_of
from dst_dist.measure.similarity import open_similarity
from dst_dist.measure.teacher_forced import TeacherForced
from dst_dist.metrics import STREAMING, TEACHER_FORCED, table_keys
from dst_dist.model import readings
from dst_dist.model.smolvlm_dst import DSTOutput
from dst_dist.processes import Processes
from dst_dist.streaming.stream import Stream, check_openings
from dst_dist.streaming.watch import watch

Timelines = Sequence[timeline.Timeline]
Measure = Callable[[FinishedRun, ClipIndex], Result | None]


def evaluate_run(run_folder: Path, split: str, overrides: Sequence[str] = (), compare: NamedRuns = ()) -> Result | None:
    """Evaluate with the gold history (teacher-forced) and write `evaluation/<split>-teacher_forced.json` (collective).

    Args:
        compare: other runs evaluated in the same way; their metrics are added to the baselines.

    Returns:
        The result on the main process, None on the others.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, or if a compared run was not evaluated, or in another way.
    """
    return _evaluate(TEACHER_FORCED, _teacher_forced, run_folder, split, overrides, compare)


def stream_run(
    run_folder: Path, split: str, overrides: Sequence[str] = (), compare: NamedRuns = (), on_the_clock: bool = False
) -> Result | None:
    """Stream every clip of a split from its own start and write `evaluation/<split>-streaming.json` (collective).

    A record of each clip goes into `<split>-streaming-clips.jsonl`. Other arguments and errors as in `evaluate_run`.

    Args:
        on_the_clock: stream one video at a time, and also measure as if frames went on arriving while the model works.

    Raises:
        ConfigError, DataError: also if the recipe's contexts are longer than the model can read.
    """
    measure = partial(_streamed, on_the_clock=on_the_clock)
    return _evaluate(STREAMING, measure, run_folder, split, overrides, compare)


def _evaluate(
    kind: str, measure: Measure, run_folder: Path, split: str, overrides: Sequence[str], compare: NamedRuns
) -> Result | None:
    """Open the run, measure it, add what every result holds, and write it."""
    others = read_others(compare, split, kind)
    run = FinishedRun.open(run_folder, split, overrides)
    if run.processes.is_main:
        # Not after hours of measuring.
        try_folder("RUN", run.folder.evaluation, WRITES)
    index = run.data.clips.index
    clips = index.subset(readings.spread(len(index), run.recipe.eval.max_clips).tolist())
    basis = measured_on(run, clips, kind)
    compared = metrics_of_others(others, basis, split)
    result = measure(run, clips)
    if result is None:
        return None
    if run.num_videos_trained_on is not None:
        result["num_videos_trained_on"] = run.num_videos_trained_on
    result["baselines"] |= compared
    result["measured_on"] = basis
    write_result(run.folder.result_file(split, kind), result, table_keys(kind))
    return result


def _teacher_forced(run: FinishedRun, clips: ClipIndex) -> Result | None:
    """Return the result on the main process, None on the others (collective)."""
    recipe, data, processes = run.recipe, run.data, run.processes
    run.use_features()
    most = recipe.eval.max_clips
    specs = readings.evaluation_specs(data, run.setup.limits, processes.rank, processes.num_processes, most)

    def forward(batch: PackedBatch) -> DSTOutput:
        return run.model(
            batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions
        )

    own = readings.read_model(
        forward, data, specs, processes.device, recipe.data.num_workers, show_progress=processes.is_main
    )
    gathered = processes.gather_objects(own)
    if not processes.is_main:
        return None
    joined = readings.join_readings(gathered)
    readings.check_finite(joined, data)
    columns = readings.numbered_among(joined, readings.spread(len(data.clips.index), most))
    asked = [timeline.asked_minutes(clip) for clip in clips]
    minutes = {head: np.array([of_clip[head] for of_clip in asked]) for head in HEAD_NAMES}
    measure = TeacherForced(columns, run.thresholds, minutes)
    result = readings.losses(columns, recipe) | measured(measure, list(clips))
    result["baselines"] = baselines.text_baselines(clips)
    for head in HEAD_NAMES:
        rate = run.training_rates and run.training_rates[head]
        for name, metrics in baselines.decision_baselines(result, head, float(minutes[head].sum()), rate).items():
            result["baselines"].setdefault(name, {}).update(metrics)
    result["curves"] = measure.curves()
    return result


def _streamed(run: FinishedRun, clips: ClipIndex, on_the_clock: bool) -> Result | None:
    """Write the clips' records and return the result on the main process, None on the others (collective)."""
    similarity = open_similarity(run.recipe.eval.similarity, str(run.model.device))
    run.check_for_streaming()
    check_openings(run.data.clips.index, run.data.maker)
    if not on_the_clock:
        # In use frames have to be encoded, so a measured delay must include it.
        run.use_features()
    streams = _watch_all(run, clips, 1 if on_the_clock else run.recipe.eval.num_streams)
    if streams is None:
        return None
    clips = [one.clip for one in streams]
    gold = [timeline.gold_timeline(clip) for clip in clips]
    predicted = [timeline.predicted_timeline(one) for one in streams]
    similarity.prepare([text for one in (*gold, *predicted) for _, text in one.replies])
    tolerance_s = run.recipe.eval.tolerance_s

    def result_of(written: Timelines) -> Result:
        tallies = [
            events.tally_stream(*of_clip, tolerance_s, similarity)
            for of_clip in zip(streams, gold, written, strict=True)
        ]
        return measured(events.Tallies(tallies), clips)

    result = result_of(predicted)
    if on_the_clock:
        delayed = [timeline.timeline_on_the_clock(one) for one in streams]
        result["on_the_clock"] = result_of(delayed) | timeline.delays(streams)
    result["counts"] = dict(sum((one.counts for one in streams), Counter()))
    for name, number in result["counts"].items():
        logger.info("%s, streamed: %d %s", run.split, number, name)
    result["reply/similarity"] = similarity.name
    result["reply/windows"] = {clip.dataset: vars(window_of(clip.dataset)) for clip in clips}
    result["baselines"] = {}
    for name, made in baselines.baseline_timelines(clips, gold, run.training_rates).items():
        tallies = [events.tally(*of_clip, tolerance_s) for of_clip in zip(clips, gold, made, strict=True)]
        result["baselines"][name] = events.Tallies(tallies)(np.ones(len(clips)))
    records = (clip_record(one, run.thresholds, tolerance_s, similarity) for one in streams)
    # Each names its model by itself: a cut may leave the clips without the result.
    of_model = {"weights": run.weights}
    write_clips(run.folder.clips_file(run.split), (record | of_model for record in records))
    return result


def _watch_all(run: FinishedRun, clips: ClipIndex, num_streams: int) -> list[timeline.Watched] | None:
    """Watch every clip on one of the processes; return all in order on the main process, else None (collective)."""
    own, settings = own_clips(clips, run.processes), run.stream_settings
    watched = watch(
        run.model, run.data, [clips[index] for index in own], lambda clip: Stream(clip, *settings), num_streams
    )
    shown = tqdm(watched, "stream", len(own), leave=False, disable=None if run.processes.is_main else True)
    gathered = run.processes.gather_objects(dict(zip(own, shown, strict=True)))
    if not run.processes.is_main:
        return None
    by_position = {position: one for of_process in gathered for position, one in of_process.items()}
    return [by_position[position] for position in range(len(clips))]


def own_clips(clips: Sequence[Clip], processes: Processes) -> list[int]:
    """Return the positions of the clips that this process streams; clips of one video stay together."""
    num_frames: Counter[str] = Counter()
    for clip in clips:
        num_frames[clip.video] += clip.end_frame - clip.start_frame
    own = set(processes.own_share(num_frames))
    return [position for position, clip in enumerate(clips) if clip.video in own]
