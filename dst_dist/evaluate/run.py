"""`dst-dist evaluate`: a run's final model on one split."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from dst_dist import config
from dst_dist.data.batching import PackedBatch
from dst_dist.errors import ConfigError
from dst_dist.evaluate.metrics import Metrics, text_baselines
from dst_dist.evaluate.teacher_forced import evaluation_specs, read_model, summarise
from dst_dist.model.finetune import load_for_inference
from dst_dist.model.smolvlm_dst import DSTOutput, SmolVLMForDST
from dst_dist.prepare import DataSetup

TABLE_KEYS = (
    "dst_update/average_precision", "dst_update/average_precision_at_frames",
    "speaking/average_precision", "speaking/average_precision_at_frames",
    "update/exact_match", "lm/token_accuracy", "loss",
)  # fmt: skip


def evaluate_run(run_folder: Path, split: str, overrides: Sequence[str] = ()) -> dict[str, Metrics]:
    """Teacher-forced evaluation in one process; writes and prints `evaluation/<split>-teacher_forced.json`.

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
    model = load_for_inference(final)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).compute_dtype = torch.bfloat16 if recipe.train.precision == "bf16" else None
    specs = evaluation_specs(data, setup.limits, 0, 1, recipe.eval.max_clips)
    columns = read_model(_forward_of(model), data, specs, device, recipe.data.num_workers, show_progress=True)
    assert columns is not None
    metrics = summarise(columns, recipe, _thresholds(recipe, model))
    result = metrics | {"num_videos": len({clip.video for clip in data.clips.index})}
    result["baselines"] = _baselines(metrics, data.clips.index)
    _write(run_folder / "evaluation" / f"{split}-teacher_forced.json", result)
    return result


def _forward_of(model: SmolVLMForDST):
    def forward(batch: PackedBatch) -> DSTOutput:
        return model(batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions)

    return forward


def _thresholds(recipe: config.Recipe, model: SmolVLMForDST) -> dict[str, float]:
    """The recipe's, else the one stored with the model, else 0.5."""
    given = {
        "dst_update": (recipe.eval.dst_threshold, model.config.dst_threshold),
        "speaking": (recipe.eval.speaking_threshold, model.config.speaking_threshold),
    }
    return {head: next((value for value in values if value is not None), 0.5) for head, values in given.items()}


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
