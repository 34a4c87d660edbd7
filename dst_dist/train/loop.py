"""The training loop."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan, MicroBatchSampler, PackedBatch
from dst_dist.data.dataset import SampleDataset, make_loader
from dst_dist.data.samples import COUNT_NAMES
from dst_dist.evaluate.teacher_forced import evaluation_specs, join_processes, read_model, summarise
from dst_dist.logs import logger
from dst_dist.model.finetune import load_model, parameter_groups, save_model
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import DSTOutput
from dst_dist.prepare import DataSetup, Faults
from dst_dist.train.engine import Engine
from dst_dist.train.metrics import Stopwatch, TrainLog, add_log_file, peak_memory_gib
from dst_dist.train.optim import build_optimizer, rate_factor, set_rates
from dst_dist.train.run_folder import RunFolder

TERMS = ("lm", "dst_gen", "dst_update", "speaking")


class NonFiniteError(RuntimeError):
    """A loss or a gradient is not a number; the weights were not touched."""


def train(recipe: Recipe, run: RunFolder, setup: DataSetup, faults: Faults | None) -> None:
    """Train one model from start to `final/`. Every process calls it (collective throughout).

    Args:
        setup: the data, read and checked.
        faults: what is wrong with the frames; None on processes that did not look.
    """
    engine = Engine(recipe)
    datasets = setup.datasets(agree_on_faults(engine, faults))
    model = load_model(recipe)
    optimizer = build_optimizer(parameter_groups(model), recipe.optim, fused=engine.device.type == "cuda")
    engine.prepare(model, optimizer)
    torch.manual_seed(recipe.seed + 1 + engine.rank)

    data = datasets["train"]
    plan = BatchPlan(data.weights, recipe.train.global_batch_size, recipe.seed, data.fingerprint)
    num_steps = recipe.train.max_steps or recipe.train.num_epochs * plan.steps_per_epoch
    open_run(engine, recipe, run)
    describe(engine, recipe, datasets, plan, num_steps)
    log = TrainLog(engine, run, recipe.log.every_steps, num_steps)
    sampler = MicroBatchSampler(plan, data.samples, setup.limits, engine.rank, engine.num_processes, 0, num_steps)
    batches = iter(make_loader(data, sampler, recipe.data.num_workers, engine.device))

    watch = Stopwatch()
    for step, epoch, draws in plan.steps(0, num_steps):
        factor = rate_factor(step, num_steps, recipe.optim)
        set_rates(engine.param_groups, factor)
        values = optimizer_step(engine, recipe, data, step_batches(batches, watch))
        run.step = step + 1
        values |= sizes(data, [draw.sample for draw in draws], watch)
        values |= {"learning_rate": recipe.optim.learning_rate * factor, "epoch": epoch}
        values["peak_memory_gib"] = peak_memory_gib(engine.device)
        log.train_step(step + 1, values)
        is_last = step + 1 == num_steps
        if "val" in datasets and ((step + 1) % recipe.eval.every_steps == 0 or is_last):
            metrics = evaluate(engine, recipe, datasets["val"], setup)
            log.evaluation(step + 1, "val", metrics)
            if is_last:
                keep_thresholds(engine, metrics)
        watch = Stopwatch()

    save_final(engine, recipe, setup, run)
    log.close()
    engine.close()


def agree_on_faults(engine: Engine, faults: Faults | None) -> Faults:
    """The main process's view of the frames, for every process (collective)."""
    return engine.from_main(faults)


def open_run(engine: Engine, recipe: Recipe, run: RunFolder) -> None:
    """The main process makes the run folder and its log file (collective)."""
    if engine.is_main:
        moved = run.open(recipe.to_yaml())
        add_log_file(run)
        if moved is not None:
            logger.warning("%s held an earlier run, which is now %s", run.path, moved)
    engine.wait()


def describe(engine: Engine, recipe: Recipe, datasets: dict[str, SampleDataset], plan: BatchPlan, num_steps: int) -> None:
    """Say what is about to be trained, and everything about the data that was corrected or left out."""
    counts = {part: sum(p.numel() for _, p in named) for part, named in parameter_groups(engine.unwrapped).items()}
    trained = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    logger.info("%s, %s; trained parameters: %s", engine.name, recipe.train.precision, trained)
    for split, data in datasets.items():
        table = data.samples
        videos = len({clip.video for clip in data.clips.index})
        logger.info(
            "%s: %d clips of %d videos, %d samples, %d frames, %d tokens, longest %d",
            split, len(data.clips.index), videos, len(table), table["frames"].sum(), table["tokens"].sum(), table["tokens"].max(),
        )  # fmt: skip
        for note in data.notes:
            logger.info("%s: %s", split, note)
    if "val" not in datasets:
        logger.info("data.val is empty: there is no validation, and the thresholds stay at 0.5")
    warn_of_rare_classes(datasets["train"])
    logger.info("%d steps, %d in an epoch", num_steps, plan.steps_per_epoch)
    if recipe.optim.warmup_steps >= num_steps:
        logger.warning("optim.warmup_steps %d: the rate never reaches its peak in %d steps", recipe.optim.warmup_steps, num_steps)


def warn_of_rare_classes(data: SampleDataset) -> None:
    """A head that sees under 5 % of a class learns little of it."""
    for head, (positives, negatives) in data.expected_classes().items():
        logger.info("%s: %.0f positives and %.0f negatives an epoch", head, positives, negatives)
        total = positives + negatives
        if total and min(positives, negatives) < 0.05 * total:
            logger.warning("%s: under 5 %% of its positions are %s", head, "positive" if positives < negatives else "negative")


def step_batches(batches: Iterator[PackedBatch], watch: Stopwatch) -> Iterator[PackedBatch]:
    """This process's micro-batches of one optimizer step."""
    while True:
        batch = watch.timed(batches)
        yield batch
        if batch.spec.is_last:
            return


def optimizer_step(engine: Engine, recipe: Recipe, data: SampleDataset, batches: Iterator[PackedBatch]) -> dict[str, Any]:
    """Forward and backward over a step's micro-batches, then one update (collective).

    Raises:
        NonFiniteError: before the update, on all processes, naming samples and loss term.
    """
    engine.model.train()
    counts, shares, specs, num_placeholders = None, [], [], 0
    for batch in batches:
        batch.check()
        if counts is None:
            counts = engine.sum_over_processes(batch.step_counts)
        output = forward(engine, recipe, batch := batch.to(engine.device))
        loss, terms = compute_loss(output, batch, counts, recipe.loss, recipe.labels.balance)
        # Engines average gradients over processes; what is wanted is their sum.
        engine.backward(loss * engine.num_processes, batch.spec.is_last)
        shares.append(torch.stack([terms[name] for name in TERMS]))
        specs.append(batch.spec)
        num_placeholders += batch.num_placeholders
    own_shares = torch.stack(shares).double()
    totals = engine.sum_over_processes(torch.cat([own_shares.sum(0), own_shares.new_tensor([num_placeholders])])).tolist()
    if not all(math.isfinite(total) for total in totals):
        raise NonFiniteError(find_non_finite(engine, data, own_shares, specs))
    norm = engine.gradient_norm()
    if not math.isfinite(norm):
        names = ", ".join(filter(None, engine.gather_objects(data_names(data, specs))))
        raise NonFiniteError(f"step {specs[0].step + 1}: the gradient is not finite; the step's samples: {names}")
    engine.step()
    return step_values(recipe, totals, counts.tolist(), norm)


def forward(engine: Engine, recipe: Recipe, batch: PackedBatch) -> DSTOutput:
    """The wrapped model on one micro-batch; all processes call the tower equally often (collective)."""
    return engine.model(
        input_ids=batch.input_ids,
        frames=batch.frames,
        segment_lengths=batch.segment_lengths,
        lm_positions=batch.lm_positions,
        decision_positions=batch.decision_positions,
        min_vision_calls=math.ceil(batch.spec.round_frames / recipe.model.vision_batch_size),
    )


def find_non_finite(engine: Engine, data: SampleDataset, shares: torch.Tensor, specs: list) -> str:
    """Which term of which samples on which process is not finite (collective)."""
    own = [
        f"{name} of {data_names(data, [spec])} on process {engine.rank}"
        for share, spec in zip(shares, specs, strict=True)
        for name, value in zip(TERMS, share.tolist(), strict=True)
        if not math.isfinite(value)
    ]
    return f"step {specs[0].step + 1}: loss is not finite: " + "; ".join(sum(engine.gather_objects(own), []))


def data_names(data: SampleDataset, specs: list) -> str:
    return ", ".join(data.sample_id(draw.sample) for spec in specs for draw in spec.draws)


def step_values(recipe: Recipe, totals: list[float], counts: list[float], norm: float) -> dict[str, Any]:
    """The loss terms (means over the global batch), class counts and gradient norm of a step."""
    terms = dict(zip(TERMS, totals, strict=False))
    values: dict[str, Any] = {"loss": sum(getattr(recipe.loss, name) * term for name, term in terms.items())}
    values |= {f"loss/{name}": term for name, term in terms.items()}
    values["grad_norm"] = norm
    values |= {f"num_{name}": int(count) for name, count in zip(COUNT_NAMES[2:], counts[2:], strict=True)}
    if totals[-1]:
        values["num_placeholder_frames"] = int(totals[-1])
    return values


def sizes(data: SampleDataset, samples: list[int], watch: Stopwatch) -> dict[str, Any]:
    """Size and speed of a step over all processes; waiting is this process's."""
    table, elapsed_s = data.samples[np.array(samples)], watch.elapsed_s
    tokens, frames = int(table["tokens"].sum()), int(table["frames"].sum())
    return {
        "num_samples": len(samples), "num_tokens": tokens, "num_frames": frames,
        "max_seq_len": int(table["tokens"].max()),
        "tokens_per_s": tokens / elapsed_s, "frames_per_s": frames / elapsed_s,
        "data_wait_share": watch.waited_s / elapsed_s,
    }  # fmt: skip


def evaluate(engine: Engine, recipe: Recipe, data: SampleDataset, setup: DataSetup) -> dict[str, float]:
    """Teacher-forced evaluation, with as many forwards on every process (collective)."""
    engine.model.eval()
    specs = evaluation_specs(data, setup.limits, engine.rank, engine.num_processes, recipe.eval.max_clips)
    columns = read_model(lambda batch: forward(engine, recipe, batch), data, specs, engine.device, recipe.data.num_workers, False)
    joined = join_processes(engine.gather_objects(columns))
    thresholds = {"dst_update": recipe.eval.dst_threshold, "speaking": recipe.eval.speaking_threshold}
    return summarise(joined, recipe, thresholds)


def keep_thresholds(engine: Engine, metrics: dict[str, float]) -> None:
    """Store the thresholds chosen on validation with the model."""
    config = engine.unwrapped.config
    config.dst_threshold = metrics.get("dst_update/threshold")
    config.speaking_threshold = metrics.get("speaking/threshold")


def save_final(engine: Engine, recipe: Recipe, setup: DataSetup, run: RunFolder) -> None:
    """Write `final/`, a Hugging Face folder (collective)."""
    weights = engine.full_state_dict(trained_only=recipe.finetune.mode == "lora")
    if engine.is_main:
        save_model(engine.unwrapped, weights, run.final)
        setup.model_files.tokenizer.save_pretrained(run.final)
        logger.info("saved %s", run.final)
    engine.wait()
