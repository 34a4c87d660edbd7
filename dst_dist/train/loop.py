"""The training loop. `Trainer.__init__` builds a run in order, `Trainer.run` trains it; the rest are their steps."""

import time
from collections.abc import Iterator
from dataclasses import asdict

import torch

from dst_dist.data.batching import BatchPlan, Draw, MicroBatchSampler, PackedBatch
from dst_dist.data.dataset import make_loader
from dst_dist.exit import DONE, STOPPED
from dst_dist.features import use_features
from dst_dist.logs import logger
from dst_dist.model.loading import load_model
from dst_dist.model.losses import NonFiniteError
from dst_dist.model.operations import costs_of, peak_operations
from dst_dist.model.trainable import parameter_groups, unwrap
from dst_dist.plan.auto import decided
from dst_dist.setup import Checks, DataSetup
from dst_dist.train.checkpoint import Checkpoints
from dst_dist.train.description import describe
from dst_dist.train.engine import Engine
from dst_dist.train.final import load_chosen, write_final
from dst_dist.train.held_folder import HeldFolder
from dst_dist.train.optim import build_optimizer, rate_factor, set_rates
from dst_dist.train.probe import run_largest
from dst_dist.train.progress import TrainLog, add_log_file, peak_memory_gib
from dst_dist.train.resume import frozen_digest, identify, resume
from dst_dist.train.room import check_room
from dst_dist.train.step import Stopwatch, optimizer_step, sizes
from dst_dist.train.stop import StopRequest
from dst_dist.train.validation import validate


class Trainer:
    """One run. Every process makes one and calls `run` (collective throughout).

    Args:
        checks: what the main process found when it checked the data; None on the others.
        allowed: keys that may differ from the run so far (`--allow-changed`).
    """

    def __init__(self, run: HeldFolder, setup: DataSetup, checks: Checks | None, stop: StopRequest, allowed: list[str]):
        self.run_folder, self.setup, self.stop = run, setup, stop
        recipe = setup.recipe

        # Processes
        self.engine = engine = Engine(recipe)
        checks = engine.from_main(checks)
        # The main process came here because it holds the folder.
        run.may_write_status = True
        stop.joined()

        # Data, and the order of its samples
        self.datasets = setup.datasets(checks)
        self.data = self.datasets["train"]
        self.recipe = recipe = decided(engine, engine.launch_file, engine.num_sharing, setup, self.data, run)
        setup.use(recipe)
        self.plan = BatchPlan(self.data.weights, recipe.train.global_batch_size, recipe.seed, self.data.fingerprint)
        self.num_steps = recipe.train.max_steps or recipe.train.num_epochs * self.plan.steps_per_epoch

        # Model and optimizer
        model = load_model(recipe)
        if recipe.data.feature_cache is not None:
            use_features(engine, recipe, unwrap(model), self.datasets, lambda: stop.is_asked)
        self.costs = costs_of(model, recipe)
        self.peak = peak_operations(engine.device, recipe.train.precision, engine.num_processes)
        frozen = frozen_digest(engine, model)
        optimizer = build_optimizer(parameter_groups(model), recipe.optim, fused=engine.device.type == "cuda")
        engine.prepare(model, optimizer)
        if recipe.train.probe:
            run_largest(engine, setup, self.data)
        torch.manual_seed(recipe.seed + 1 + engine.rank)

        # Run folder
        self.checkpoints = Checkpoints(run, recipe.checkpoint.keep, background=recipe.checkpoint.background)
        self.open_folder(allowed)

        # Where an earlier start of this run was cut
        self.identity = identify(recipe, self.data, setup.model_files, frozen, engine)
        self.progress = resume(engine, self.checkpoints, self.identity, allowed)
        self.progress.compare_by(recipe, self.datasets.get("val"))
        run.step = self.start_step = self.progress.step
        if engine.is_main:
            if self.progress.step < self.num_steps:
                check_room(engine, self.checkpoints)
            run.write_config(recipe.to_yaml())
            run.write_videos(self.data.clips.index.videos(), goes_on=self.progress.step > 0)

        # Logs
        self.log = TrainLog(engine, run, recipe, self.num_steps, self.progress.step)
        describe(engine, recipe, self.datasets, setup.limits, self.plan, self.num_steps)

    def run(self) -> int:
        """Train to the end, or until asked to stop, and return the exit code (collective)."""
        self.stop.started()
        try:
            is_stopping = self.train()
        except Exception as error:
            # Completing is collective, and other errors than this one are of a single process.
            if isinstance(error, NonFiniteError) or self.engine.num_processes == 1:
                self.complete_save()
            self.checkpoints.drop()
            raise
        self.stop.obeyed()
        self.log.close()
        self.engine.close()
        return STOPPED if is_stopping else DONE

    def train(self) -> bool:
        """Train, save and write `final/`, and return whether it was asked to stop before (collective)."""
        steps = self.plan.steps(self.progress.step, self.num_steps)
        batches = self.batches_from(self.progress.step)
        # Due before the first step if an earlier start was cut in its evaluation.
        is_best = self.evaluation_is_due() and self.evaluate()
        while True:
            is_stopping = self.is_stopping()
            if is_stopping or is_best or self.checkpoint_is_due():
                self.save(is_best)
            if is_stopping or self.is_over():
                self.complete_save()
                self.checkpoints.remover.wait()
                break
            self.train_step(*next(steps), batches)
            is_best = self.evaluation_is_due() and self.evaluate()
        if is_stopping:
            logger.info("stopped on request after step %d; the same command continues", self.progress.step)
        else:
            self.finish()
        return is_stopping

    def is_stopping(self) -> bool:
        """Return whether any process was asked to stop; complete a save that all have written (collective)."""
        is_asked, is_writing = self.engine.any_process(self.stop.is_asked, self.checkpoints.is_writing)
        if not is_writing:
            self.complete_save()
        return is_asked

    def train_step(self, step: int, epoch: int, draws: list[Draw], batches: Iterator[PackedBatch]) -> None:
        """Train and log optimizer step `step` (0 is the first) of the batch plan (collective)."""
        watch = Stopwatch()
        factor = rate_factor(step, self.num_steps, self.recipe.optim)
        set_rates(self.engine.optimizer.param_groups, factor)
        counts = self.data.counts(draws, epoch)
        values = optimizer_step(self.engine, self.recipe, self.data, watch.step_batches(batches), counts)
        values |= sizes(self.data, [draw.sample for draw in draws], watch, self.costs, self.peak)
        values |= {"learning_rate": self.recipe.optim.learning_rate * factor, "epoch": epoch}
        values["peak_memory_gib"] = peak_memory_gib(self.engine.device)
        self.progress.step = self.run_folder.step = step + 1
        self.log.train_step(step + 1, values)

    def evaluate(self) -> bool:
        """Measure the validation split and return whether it is the best so far (collective)."""
        data, limits = self.datasets["val"], self.setup.limits
        metrics = validate(self.engine, self.recipe, data, limits, self.is_stopping, self.stop.watched)
        if metrics is None:
            return False
        self.log.evaluation(self.progress.step, metrics)
        return self.progress.note_evaluation(metrics, self.recipe.checkpoint.best.removeprefix("val/"))

    def save(self, is_best: bool) -> None:
        """Begin a checkpoint once the one before is complete; in the foreground, complete it too (collective)."""
        self.complete_save()
        started_s = time.perf_counter()
        training = {"progress": asdict(self.progress), "num_processes": self.engine.num_processes, **self.identity}
        goes_on = self.checkpoints.begin(self.engine, self.progress.step, training, is_best)
        self.log.checkpoint_begun(time.perf_counter() - started_s)
        if not goes_on:
            self.complete_save()

    def complete_save(self) -> None:
        """Wait for the save that was begun, if there is one, and complete it (collective)."""
        started_s = time.perf_counter()
        if (saved := self.checkpoints.complete(self.engine)) is not None:
            self.log.checkpoint(*saved, time.perf_counter() - started_s)

    def finish(self) -> None:
        """Write `final/`, the model of the last step or the best one (collective)."""
        if self.progress.step < self.num_steps:
            logger.info(
                f"eval.patience: {self.progress.num_since_best} evaluations in a row were no better than that of step "
                f"{self.progress.best_step}; training ends"
            )
        chosen = load_chosen(self.engine, self.checkpoints, self.recipe.checkpoint, self.progress)
        write_final(self.engine, self.recipe, self.run_folder, self.data, self.setup.model_files, chosen)

    def evaluation_is_due(self) -> bool:
        step = self.progress.step
        due = step > 0 and (step % self.recipe.eval.every_steps == 0 or step >= self.num_steps)
        return "val" in self.datasets and due and self.progress.evaluated_step < step

    def checkpoint_is_due(self) -> bool:
        step = self.progress.step
        return step > self.start_step and (step % self.recipe.checkpoint.every_steps == 0 or self.is_over())

    def is_over(self) -> bool:
        """Return whether all steps are done, or `eval.patience` evaluations in a row were no better than the best."""
        patience = self.recipe.eval.patience
        is_impatient = patience is not None and self.progress.num_since_best >= patience
        return self.progress.step >= self.num_steps or is_impatient

    def batches_from(self, step: int) -> Iterator[PackedBatch]:
        """Return this process's micro-batches from an optimizer step on, made by data workers."""
        own = self.data.samples, self.setup.limits, self.engine.rank, self.engine.num_processes, self.data.frame_cost
        sampler = MicroBatchSampler(self.plan, *own, start=step, stop=self.num_steps)
        return self.stop.watched(make_loader(self.data, sampler, self.recipe.data.num_workers, self.engine.device))

    def open_folder(self, allowed: list[str]) -> None:
        """Prepare the run folder and its log file on the main process, while the others wait (collective)."""
        if self.engine.is_main:
            run = self.run_folder
            moved = run.open(self.recipe.model_dump(mode="json"), allowed)
            add_log_file(run)
            self.checkpoints.clear_unfinished()
            if moved is not None:
                logger.warning("%s held another run, which is now %s", run.path, moved)
            if run.lacking:
                logger.warning(
                    f"output_dir {run.path}: its file system lacks {len(run.lacking)} things that the run does "
                    f"without: it {'; '.join(run.lacking)}"
                )
        self.engine.wait()
