"""The training loop."""

import time
from collections.abc import Iterator

from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan, Draw, MicroBatchSampler, PackedBatch
from dst_dist.data.dataset import make_loader
from dst_dist.exit import DONE, STOPPED
from dst_dist.logs import logger
from dst_dist.model.loading import load_model
from dst_dist.model.trainable import parameter_groups
from dst_dist.setup import DataSetup, Faults
from dst_dist.train.checkpoint import Checkpoints
from dst_dist.train.description import describe
from dst_dist.train.engine import Engine
from dst_dist.train.final import write_final
from dst_dist.train.held_folder import HeldFolder
from dst_dist.train.optim import build_optimizer, rate_factor, set_rates
from dst_dist.train.progress import Stopwatch, TrainLog, add_log_file, peak_memory_gib
from dst_dist.train.random_state import seed_all
from dst_dist.train.resume import best_by, frozen_digest, identify, resume, to_training
from dst_dist.train.step import optimizer_step, sizes, step_batches
from dst_dist.train.stop import StopRequest
from dst_dist.train.validation import validate


class Trainer:
    """Trains one run. Every process makes one and calls `run` (collective throughout).

    Args:
        setup: the data, read and checked.
        faults: what is wrong with the frames; None on processes that did not look.
        allowed: keys that may differ from the run so far (`--allow-changed`).
    """

    def __init__(
        self,
        recipe: Recipe,
        run: HeldFolder,
        setup: DataSetup,
        faults: Faults | None,
        stop: StopRequest,
        allowed: list[str],
    ):
        self.recipe, self.run_folder, self.setup, self.stop = recipe, run, setup, stop

        # Processes
        self.engine = Engine(recipe)
        faults = self.engine.from_main(faults)
        # The main process came here only because it holds the folder.
        run.is_held = True

        # Data, and the order of its samples
        self.datasets = setup.datasets(faults)
        self.data = self.datasets["train"]
        self.plan = BatchPlan(self.data.weights, recipe.train.global_batch_size, recipe.seed, self.data.fingerprint)
        self.num_steps = recipe.train.max_steps or recipe.train.num_epochs * self.plan.steps_per_epoch

        # Model and optimizer
        model = load_model(recipe)
        frozen = frozen_digest(self.engine, model)
        optimizer = build_optimizer(parameter_groups(model), recipe.optim, fused=self.engine.device.type == "cuda")
        self.engine.prepare(model, optimizer)
        seed_all(recipe.seed + 1 + self.engine.rank)

        # The folder, which takes back what was never finished
        self.checkpoints = Checkpoints(run, recipe.checkpoint.keep)
        open_run(self.engine, recipe, run, self.checkpoints, allowed)

        # Where an earlier start of this run was cut
        self.identity = identify(recipe, self.data, setup.model_files, frozen, self.engine)
        self.progress = resume(self.engine, self.checkpoints, self.identity, allowed)
        self.progress.compare_by(best_by(recipe, self.datasets.get("val")))
        run.step = self.start_step = self.progress.step
        if self.engine.is_main:
            run.write_config(recipe.to_yaml())
            run.write_videos(clip.video for clip in self.data.clips.index)

        # What people see
        self.log = TrainLog(self.engine, run, recipe.log.every_steps, self.num_steps, self.progress.step)
        describe(self.engine, recipe, self.datasets, self.plan, self.num_steps)

    def run(self) -> int:
        """Train to the end, or until asked to stop; returns the exit code (collective)."""
        steps = self.plan.steps(self.progress.step, self.num_steps)
        batches = self.batches_from(self.progress.step)
        # Due at once where an earlier start was cut in its evaluation.
        improved = self.evaluation_is_due() and self.evaluate()
        while True:
            stopping = self.engine.any_process(self.stop.is_asked)
            if stopping or improved or self.checkpoint_is_due():
                self.save(improved)
            if stopping:
                return self.stopped()
            if self.is_over():
                break
            self.train_step(*next(steps), batches)
            improved = self.evaluation_is_due() and self.evaluate()
        self.finish()
        return DONE

    def train_step(self, step: int, epoch: int, draws: list[Draw], batches: Iterator[PackedBatch]) -> None:
        """Run and log optimizer step `step` (0 is the first) of the batch plan (collective)."""
        watch = Stopwatch()
        factor = rate_factor(step, self.num_steps, self.recipe.optim)
        set_rates(self.engine.param_groups, factor)
        counts = self.data.counts(draws, epoch)
        values = optimizer_step(self.engine, self.recipe, self.data, step_batches(batches, watch), counts)
        values |= sizes(self.data, [draw.sample for draw in draws], watch)
        values |= {"learning_rate": self.recipe.optim.learning_rate * factor, "epoch": epoch}
        values["peak_memory_gib"] = peak_memory_gib(self.engine.device)
        self.progress.step = self.run_folder.step = step + 1
        self.log.train_step(step + 1, values)

    def batches_from(self, step: int) -> Iterator[PackedBatch]:
        """Return this process's micro-batches from an optimizer step on, made by data workers."""
        rank, num_processes = self.engine.rank, self.engine.num_processes
        sampler = MicroBatchSampler(
            self.plan, self.data.samples, self.setup.limits, rank, num_processes, step, self.num_steps
        )
        return iter(make_loader(self.data, sampler, self.recipe.data.num_workers, self.engine.device))

    def is_over(self) -> bool:
        return self.progress.step >= self.num_steps or self.patience_is_over()

    def evaluation_is_due(self) -> bool:
        """Return whether to evaluate now, also after a start from a checkpoint whose evaluation was cut."""
        step = self.progress.step
        due = step > 0 and (step % self.recipe.eval.every_steps == 0 or step >= self.num_steps)
        return "val" in self.datasets and due and self.progress.evaluated_step < step

    def evaluate(self) -> bool:
        """Measure the validation split; returns whether it is the best so far (collective)."""
        data, limits = self.datasets["val"], self.setup.limits
        metrics = validate(self.engine, self.recipe, data, limits, lambda: self.engine.any_process(self.stop.is_asked))
        if metrics is None:
            return False
        self.log.evaluation(self.progress.step, "val", metrics)
        return self.progress.note_evaluation(metrics, self.recipe.checkpoint.best.removeprefix("val/"))

    def checkpoint_is_due(self) -> bool:
        step = self.progress.step
        return step > self.start_step and (step % self.recipe.checkpoint.every_steps == 0 or self.is_over())

    def save(self, is_best: bool) -> None:
        """Write a checkpoint (collective)."""
        started_s = time.perf_counter()
        training = to_training(self.identity, self.progress, self.engine)
        path = self.checkpoints.save(self.engine, self.progress.step, training, is_best)
        self.log.checkpoint(path, time.perf_counter() - started_s)

    def patience_is_over(self) -> bool:
        """Return whether `eval.patience` evaluations in a row were no better than the best (early stopping)."""
        patience = self.recipe.eval.patience
        return patience is not None and self.progress.num_since_best >= patience

    def stopped(self) -> int:
        """End after a request to stop, when the checkpoint is written (collective)."""
        logger.info("stopped on request after step %d; the same command continues", self.progress.step)
        self.stop.obeyed()
        self.close()
        return STOPPED

    def finish(self) -> None:
        """Write `final/` and end (collective)."""
        if self.progress.step < self.num_steps:
            number, best = self.progress.num_since_best, self.progress.best_step
            logger.info(
                "eval.patience: %d evaluations in a row were no better than that of step %d; training ends",
                number,
                best,
            )
        run, model_files = self.run_folder, self.setup.model_files
        write_final(self.engine, self.recipe, run, self.data, model_files, self.progress.thresholds)
        self.stop.obeyed()
        self.close()

    def close(self) -> None:
        self.log.close()
        self.engine.close()


def open_run(engine: Engine, recipe: Recipe, run: HeldFolder, checkpoints: Checkpoints, allowed: list[str]) -> None:
    """Make the run folder and its log file on the main process (collective)."""
    if engine.is_main:
        moved = run.open(recipe.model_dump(mode="json"), allowed)
        add_log_file(run)
        checkpoints.clear_unfinished()
        if moved is not None:
            logger.warning("%s held another run, which is now %s", run.path, moved)
    engine.wait()
