"""`dst-dist evaluate` and `stream`: a run's final model on one split, or one video."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dst_dist.data.batching import PackedBatch
from dst_dist.errors import DataError
from dst_dist.evaluate.event_metrics import event_metrics, gold_timeline, predicted_timeline
from dst_dist.evaluate.finished_run import FinishedRun
from dst_dist.evaluate.metrics import Metrics, text_baselines
from dst_dist.evaluate.teacher_forced import evaluation_specs, read_model, spread, summarise
from dst_dist.evaluate.watch import Watched
from dst_dist.model.smolvlm_dst import DSTOutput, SmolVLMForDST

TABLE_KEYS = (
    "dst_update/average_precision", "dst_update/average_precision_at_frames",
    "speaking/average_precision", "speaking/average_precision_at_frames",
    "update/exact_match", "lm/token_accuracy", "loss",
)  # fmt: skip

STREAMING_KEYS = (
    "transition/f1", "transition/precision", "transition/recall",
    "joint_goal_accuracy/frames", "joint_goal_accuracy/updates", "step_status_accuracy",
    "update/json_valid", "update/illegal", "dst_update/f1@2s", "dst_update/false_per_minute",
    "speaking/f1@2s", "speaking/false_per_minute", "real_time_factor",
)  # fmt: skip


def evaluate_run(run_folder: Path, split: str, overrides: Sequence[str] = ()) -> dict[str, Metrics]:
    """Teacher-forced evaluation in one process; writes and prints `evaluation/<split>-teacher_forced.json`.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`.
    """
    run = FinishedRun.open(run_folder, split, overrides)
    recipe, data = run.recipe, run.data
    specs = evaluation_specs(data, run.setup.limits, 0, 1, recipe.eval.max_clips)
    columns = read_model(
        _forward_of(run.model), data, specs, run.model.device, recipe.data.num_workers, show_progress=True
    )
    assert columns is not None
    metrics = summarise(columns, recipe, run.thresholds)
    result = metrics | {"num_videos": len({clip.video for clip in data.clips.index})}
    result["baselines"] = _baselines(metrics, data.clips.index)
    _write(run_folder / "evaluation" / f"{split}-teacher_forced.json", result, TABLE_KEYS)
    return result


def stream_run(run_folder: Path, split: str, overrides: Sequence[str] = ()) -> dict[str, Metrics]:
    """Stream every clip of a split from its own start; writes and prints `evaluation/<split>-streaming.json`.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`.
    """
    run = FinishedRun.open(run_folder, split, overrides)
    index = run.data.clips.index
    clips = [index[int(position)] for position in spread(len(index), run.recipe.eval.max_clips)]
    streams = [Watched.watch(run, clip) for clip in tqdm(clips, desc="stream", leave=False, disable=None)]
    gold = [gold_timeline(clip) for clip in clips]
    predicted = [predicted_timeline(one.clip, one.events, one.states) for one in streams]
    durations_s = [(clip.end_frame - clip.start_frame) / clip.fps for clip in clips]
    step_ids = [[step.id for step in clip.steps] for clip in clips]
    result = event_metrics(gold, predicted, step_ids, durations_s, run.recipe.eval.tolerance_s)
    result |= _written_metrics(streams)
    result["real_time_factor"] = sum(one.elapsed_s for one in streams) / sum(durations_s)
    result["num_videos"] = len({clip.video for clip in clips})
    silent = [predicted_timeline(clip, [], [clip.initial_state] * len(truth.states)) for clip, truth in zip(clips, gold, strict=True)]
    result["baselines"] = {"never": event_metrics(gold, silent, step_ids, durations_s, run.recipe.eval.tolerance_s)}
    _write(run_folder / "evaluation" / f"{split}-streaming.json", result, STREAMING_KEYS)
    return result


def stream_video(run_folder: Path, split: str, video: str, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Show a run's final model one video frame by frame; yields lines for people.

    Args:
        video: name of a frames file, or the end of its path below the data root. Its clips give the tasks and what
            the user says.

    Raises:
        ConfigError, DataError: as `FinishedRun.open`, or if the split has no such video.
    """
    run = FinishedRun.open(run_folder, split, overrides)
    clips = [clip for clip in run.data.clips.index if clip.video.removesuffix(".arrow").endswith(video.removesuffix(".arrow"))]
    if not clips:
        known = ", ".join(sorted({Path(clip.video).stem for clip in run.data.clips.index})[:5])
        raise DataError(f"no clip of a video {video} in data.{split}; there are {known}, ...")
    for clip in clips:
        yield from Watched.watch(run, clip).lines()


def _written_metrics(streams: Sequence[Watched]) -> Metrics:
    """Whether updates can be read, and how many of their transitions the state did not allow."""
    updates = [event for one in streams for event in one.events if event.role == "DST_UPDATE"]
    if not updates:
        return {}
    transitions = sum(len(event.transitions) for event in updates)
    return {
        "update/json_valid": float(np.mean([bool(event.transitions) for event in updates])),
        "update/illegal": sum(event.num_illegal for event in updates) / max(1, transitions),
    }


def _forward_of(model: SmolVLMForDST):
    def forward(batch: PackedBatch) -> DSTOutput:
        return model(batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions)

    return forward


def _baselines(metrics: Metrics, clips) -> dict[str, Metrics]:
    """Chance scores a head's positions at random: its average precision is the base rate."""
    baselines = text_baselines(clips)
    at_random = {
        key.replace("base_rate", "average_precision"): value for key, value in metrics.items() if "/base_rate" in key
    }
    return {"chance": at_random | baselines.pop("chance", {}), **baselines}


def _write(path: Path, result: dict, keys: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    names = list(result["baselines"])
    print(f"{'':42}{'model':>10}" + "".join(f"{name:>10}" for name in names))
    for key in keys:
        if key in result:
            cells = [result[key], *(result["baselines"][name].get(key) for name in names)]
            print(f"{key:42}" + "".join(f"{'':>10}" if cell is None else f"{cell:>10.3f}" for cell in cells))
    print(f"written to {path}")
