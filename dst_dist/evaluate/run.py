"""`dst-dist evaluate`: a run's final model on one split, with the gold history or streamed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dst_dist.data.batching import PackedBatch
from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.evaluate.clip_records import clip_record
from dst_dist.evaluate.compare import NamedRuns, measured_on, metrics_of_others, read_others
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.evaluate.results import Result, write_clips, write_result
from dst_dist.evaluate.sharing import share_of
from dst_dist.heads import HEAD_NAMES
from dst_dist.logs import logger
from dst_dist.measure.baselines import baseline_timelines, decision_baselines, text_baselines
from dst_dist.measure.decisions import Metrics
from dst_dist.measure.events import Tallies, tally
from dst_dist.measure.intervals import measured
from dst_dist.measure.replies import window_of
from dst_dist.measure.similarity import Similarity, open_similarity
from dst_dist.measure.teacher_forced import TeacherForced
from dst_dist.measure.timeline import (
    Timeline,
    Watched,
    asked_minutes,
    delays,
    gold_timeline,
    predicted_timeline,
    timeline_on_the_clock,
)
from dst_dist.model.readings import (
    check_finite,
    evaluation_specs,
    join_readings,
    losses,
    numbered_among,
    read_model,
    spread,
)
from dst_dist.model.smolvlm_dst import DSTOutput, SmolVLMForDST
from dst_dist.streaming.stream import check_openings
from dst_dist.streaming.watch import watch


def evaluate_run(run_folder: Path, split: str, overrides: Sequence[str] = (), compare: NamedRuns = ()) -> Result | None:
    """Teacher-forced; the main process writes `evaluation/<split>-teacher_forced.json` and returns it (collective).

    Args:
        compare: other runs evaluated in the same way, whose metrics stand among the baselines.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, or if a compared run was not evaluated, or was in another way.
    """
    others = read_others(compare, split, "teacher_forced")
    run = FinishedRun.open(run_folder, split, overrides)
    recipe, data, processes = run.recipe, run.data, run.processes
    clips = _evaluated(run)
    basis = measured_on(run, clips, "teacher_forced")
    compared = metrics_of_others(others, basis, split)
    specs = evaluation_specs(data, run.setup.limits, processes.rank, processes.num_processes, recipe.eval.max_clips)
    read = read_model(
        _forward_of(run.model), data, specs, processes.device, recipe.data.num_workers, show_progress=processes.is_main
    )
    assert read is not None
    gathered = processes.gather_objects(read)
    if not processes.is_main:
        return None
    joined = join_readings(gathered)
    check_finite(joined, data)
    columns, clips = numbered_among(joined, spread(len(data.clips.index), recipe.eval.max_clips)), list(clips)
    asked = [asked_minutes(clip) for clip in clips]
    minutes = {head: np.array([of_clip[head] for of_clip in asked]) for head in HEAD_NAMES}
    measure = TeacherForced(columns, run.thresholds, minutes)
    result = losses(columns, recipe) | measured(measure, clips) | _trained_on(run)
    result["baselines"] = _teacher_forced_baselines(result, clips, minutes, run.training_rates) | compared
    result["measured_on"] = basis
    result["curves"] = measure.curves()
    write_result(run_folder, split, "teacher_forced", result)
    return result


def stream_run(
    run_folder: Path, split: str, overrides: Sequence[str] = (), compare: NamedRuns = (), on_the_clock: bool = False
) -> Result | None:
    """Stream every clip of a split from its own start; the main process writes `evaluation/<split>-streaming.json`, and
    what happened in each clip into `<split>-streaming-clips.jsonl`, and returns the first (collective).

    Args:
        compare: as in `evaluate_run`.
        on_the_clock: one video at a time, and also measured as if frames went on arriving while the model works.

    Raises:
        ConfigError, DataError: as `evaluate_run`, or if the recipe's contexts are longer than the model can read.
    """
    others = read_others(compare, split, "streaming")
    run = FinishedRun.open(run_folder, split, overrides)
    basis = measured_on(run, _evaluated(run), "streaming")
    compared = metrics_of_others(others, basis, split)
    similarity = open_similarity(run.recipe.eval.similarity, run.model.device)
    run.check_for_streaming()
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
    result["baselines"] = _streaming_baselines(run, [one.clip for one in streams], gold) | compared
    result["measured_on"] = basis
    tolerance_s = run.recipe.eval.tolerance_s
    records = [
        clip_record(*of_clip, run.thresholds, tolerance_s, similarity)
        for of_clip in zip(streams, gold, predicted, strict=True)
    ]
    write_clips(run_folder, split, records)
    write_result(run_folder, split, "streaming", result)
    return result


def _streaming_result(
    run: FinishedRun,
    streams: Sequence[Watched],
    gold: Sequence[Timeline],
    written: Sequence[Timeline],
    similarity: Similarity,
) -> Result:
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


def _trained_on(run: FinishedRun) -> dict[str, int]:
    return {} if run.num_videos_trained_on is None else {"num_videos_trained_on": run.num_videos_trained_on}


def _evaluated(run: FinishedRun) -> ClipIndex:
    """The clips of the split, or as many of them as `eval.max_clips` says."""
    index = run.data.clips.index
    return index.subset(spread(len(index), run.recipe.eval.max_clips).tolist())


def _watch_all(run: FinishedRun, num_streams: int) -> list[Watched] | None:
    """Every clip once, on whichever process; in their order on the main process, None on the others (collective)."""
    clips, processes = _evaluated(run), run.processes
    mine = share_of(clips, processes)
    shown = tqdm(
        watch(
            run.model,
            run.data,
            [clips[position] for position in mine],
            run.thresholds,
            run.recipe.eval.on_full_context,
            num_streams,
        ),
        "stream",
        len(mine),
        leave=False,
        disable=None if processes.is_main else True,
    )
    gathered = processes.gather_objects(dict(zip(mine, shown, strict=True)))
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
) -> dict[str, Metrics]:
    baselines: dict[str, Metrics] = {}
    parts = [
        text_baselines(clips),
        *(decision_baselines(metrics, head, float(minutes[head].sum()), rates and rates[head]) for head in HEAD_NAMES),
    ]
    for part in parts:
        for name, values in part.items():
            baselines[name] = baselines.get(name, {}) | values
    return baselines
