"""`dst-dist evaluate` and `stream`: a run's final model on one split, or one video."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dst_dist import config
from dst_dist.data.batching import PackedBatch
from dst_dist.data.clips import Clip
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.frames import FrameReader
from dst_dist.data.state import format_state
from dst_dist.errors import ConfigError, DataError
from dst_dist.evaluate.metrics import Metrics, text_baselines
from dst_dist.evaluate.stream import Event, Streamer, Thresholds
from dst_dist.evaluate.teacher_forced import evaluation_specs, read_model, summarise
from dst_dist.model.finetune import load_for_inference
from dst_dist.model.smolvlm_dst import DSTOutput, SmolVLMForDST
from dst_dist.prepare import DataSetup

TABLE_KEYS = (
    "dst_update/average_precision", "dst_update/average_precision_at_frames",
    "speaking/average_precision", "speaking/average_precision_at_frames",
    "update/exact_match", "lm/token_accuracy", "loss",
)  # fmt: skip


@dataclass
class FinishedRun:
    """A run's recipe, its final model ready to be used, and one split of its data."""

    recipe: config.Recipe
    model: SmolVLMForDST
    setup: DataSetup
    data: SampleDataset

    @classmethod
    def open(cls, run_folder: Path, split: str, overrides: Sequence[str] = ()) -> "FinishedRun":
        """Read a run folder.

        Raises:
            ConfigError: if the run has no final model, or its recipe names no such split.
            DataError: if the split's data cannot be used.
        """
        final = run_folder / "final"
        if not (run_folder / "config.yaml").is_file() or not final.is_dir():
            raise ConfigError(f"{run_folder}: not a finished run, it should hold config.yaml and final/")
        recipe = config.load([str(run_folder / "config.yaml"), *overrides, f"model.name_or_path={final}"])
        if not getattr(recipe.data, split):
            raise ConfigError(f"data.{split} is empty in {run_folder}/config.yaml; add data.{split}=[...]")
        setup = DataSetup(recipe, splits=(split,))
        data = setup.datasets(setup.check())[split]
        # Of the training split too, evaluation counts every negative.
        data.negative_rate = 1.0
        model = load_for_inference(final).to("cuda" if torch.cuda.is_available() else "cpu")
        model.compute_dtype = torch.bfloat16 if recipe.train.precision == "bf16" else None
        return cls(recipe, model, setup, data)

    @property
    def thresholds(self) -> dict[str, float]:
        """By head: the recipe's, else the one stored with the model, else 0.5."""
        given = {
            "dst_update": (self.recipe.eval.dst_threshold, self.model.config.dst_threshold),
            "speaking": (self.recipe.eval.speaking_threshold, self.model.config.speaking_threshold),
        }
        return {head: next((value for value in values if value is not None), 0.5) for head, values in given.items()}


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
    _write(run_folder / "evaluation" / f"{split}-teacher_forced.json", result)
    return result


def stream_video(run_folder: Path, split: str, video: str, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Show a run's final model one video frame by frame; yields a line for every event, and a summary of each clip.

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
    thresholds = Thresholds(**run.thresholds)
    for clip in clips:
        streamer = Streamer(run.model, clip, run.data.maker, thresholds, run.recipe.eval.on_full_context)
        yield f"{clip.id}: {clip.goal}"
        yield from _stream_clip(streamer, clip, FrameReader(run.data.image_size))


def _stream_clip(streamer: Streamer, clip: Clip, reader: FrameReader) -> Iterator[str]:
    said = {}
    for turn in clip.turns:
        if turn.role == "user":
            said.setdefault(turn.frame, []).append(turn.text)
    started_s = time.perf_counter()
    frame = np.empty((1, 3, reader.size, reader.size), np.uint8)
    for index in range(clip.start_frame, clip.end_frame):
        if not reader.read(clip.frames_path, [index], frame)[0]:
            streamer.counts["frames missing, seen as grey"] += 1
        events = streamer.push_frame(torch.from_numpy(frame[0]))
        for text in said.get(index, []):
            yield from map(_event_line(clip), events)
            yield f"  {index / clip.fps:8.1f} s  user: {text}"
            events = streamer.push_user(text)
        yield from map(_event_line(clip), events)
    per_frame_s = (time.perf_counter() - started_s) / (clip.end_frame - clip.start_frame)
    state = format_state(streamer.state, streamer.step_ids) if clip.steps else "no steps"
    yield f"  state: {state}"
    counts = "".join(f"; {number} {kind}" for kind, number in streamer.counts.items() if number)
    yield f"  {per_frame_s * 1000:.1f} ms a frame, {1 / (per_frame_s * clip.fps):.1f} times real time{counts}"


def _event_line(clip: Clip) -> Callable[[Event], str]:
    def line(event: Event) -> str:
        remark = f"  ({event.num_illegal} not allowed)" if event.num_illegal else ""
        return f"  {event.frame / clip.fps:8.1f} s  {event.role}: {event.text}  [{event.probability:.2f}]{remark}"

    return line


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


def _write(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    names = list(result["baselines"])
    print(f"{'':42}{'model':>10}" + "".join(f"{name:>10}" for name in names))
    for key in TABLE_KEYS:
        if key in result:
            cells = [result[key], *(result["baselines"][name].get(key) for name in names)]
            print(f"{key:42}" + "".join(f"{'':>10}" if cell is None else f"{cell:>10.3f}" for cell in cells))
    print(f"written to {path}")
