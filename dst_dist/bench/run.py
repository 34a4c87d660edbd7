"""`dst-dist bench` measures how fast a recipe trains on this machine, and where the time goes. It keeps no weights."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from dst_dist.bench.parts import WatchedEngine, seconds_of_parts
from dst_dist.bench.synthetic import SyntheticDataset
from dst_dist.data.batching import BatchPlan, MicroBatchSampler, PackedBatch
from dst_dist.data.dataset import make_loader
from dst_dist.devices import on_cpu
from dst_dist.features import use_features
from dst_dist.launched import is_main
from dst_dist.model.loading import load_model
from dst_dist.model.operations import Operations, costs_of, peak_operations
from dst_dist.model.trainable import parameter_groups, unwrap
from dst_dist.plan.auto import decided, device_memory
from dst_dist.plan.fit import Fit, fit
from dst_dist.plan.micro_batches import largest_micro_batches
from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder
from dst_dist.setup import DataSetup
from dst_dist.train.optim import build_optimizer, rate_factor, set_rates
from dst_dist.train.progress import peak_memory_gib
from dst_dist.train.step import Stopwatch, operations_of, optimizer_step

WARM_UP_STEPS = 2
"""Steps before the clock starts: allocators, tuned kernels and data workers get going."""
WATCHED_STEPS = 3
"""Steps under the profiler, after the timed ones, which it would slow."""


@dataclass(frozen=True)
class Measured:
    """Time, work and memory of the timed steps, over all processes; parts and memory are the main process's."""

    elapsed_s: float
    num_tokens: int
    num_frames: int
    work: Operations
    peak_per_s: float | None
    """Operations a second of all devices together, if known."""
    watched_s: float
    """Seconds of a watched step."""
    parts_s: dict[str, float]
    """Seconds of a watched step, by part."""
    peak_memory_gib: float
    plan: Fit
    """The memory planned for these very steps."""


class Bench:
    """A recipe built as the trainer builds it, and its steps. Every process makes one (collective throughout).

    Raises:
        ConfigError, DataError, CheckpointError: as training would, and if `--synthetic` does not fit the recipe.
    """

    def __init__(self, words: Sequence[str], num_steps: int, synthetic: bool = False):
        recipe = load_recipe([*words, "log.report_to=[]"])
        self.setup = DataSetup(recipe, splits=() if synthetic else ("train",))
        faults = self.setup.check() if is_main() else None
        self.num_steps, self.total_steps = num_steps, WARM_UP_STEPS + num_steps + WATCHED_STEPS
        self.engine = WatchedEngine(recipe)
        datasets = self.setup.datasets(self.engine.from_main(faults))
        self.data = SyntheticDataset(recipe, self.setup.model_files) if synthetic else datasets["train"]
        engine, data, run = self.engine, self.data, RunFolder(Path(recipe.output_dir))
        # Without `auto`, as a run in its folder would have it.
        self.recipe = recipe = decided(engine, engine.launch_file, engine.num_sharing, self.setup, data, run)
        self.setup.use(recipe)
        self._build_model(synthetic)
        plan = BatchPlan(data.weights, recipe.train.global_batch_size, recipe.seed, data.fingerprint)
        self.steps = plan.steps(0, self.total_steps)
        own = data.samples, self.setup.limits, engine.rank, engine.num_processes, data.frame_cost
        sampler = MicroBatchSampler(plan, *own, start=0, stop=self.total_steps)
        self.batches = make_loader(data, sampler, recipe.data.num_workers, engine.device)

    def _build_model(self, synthetic: bool) -> None:
        model = load_model(self.recipe)
        if synthetic:
            self.data.fit_to(unwrap(model), self.recipe)
        elif self.recipe.data.feature_cache is not None:
            use_features(self.engine, self.recipe, unwrap(model), {"train": self.data})
        self.costs = costs_of(model, self.recipe)
        is_gpu = self.engine.device.type == "cuda"
        self.engine.prepare(model, build_optimizer(parameter_groups(model), self.recipe.optim, fused=is_gpu))
        torch.manual_seed(self.recipe.seed + 1 + self.engine.rank)

    def run(self, trace: Path | None = None) -> Measured:
        """Run all steps and return what they took; the main process writes the profiler's trace (collective)."""
        if self.engine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.engine.device)
        self._run_steps(WARM_UP_STEPS)
        elapsed_s, rows = self._run_steps(self.num_steps)
        peak_gib = peak_memory_gib(self.engine.device)
        self.engine.is_watching = True
        activities = [ProfilerActivity.CPU, *([] if on_cpu() else [ProfilerActivity.CUDA])]
        with profile(activities=activities) as profiler:
            watched_s, _ = self._run_steps(WATCHED_STEPS)
        if trace is not None and self.engine.is_main:
            profiler.export_chrome_trace(str(trace))
        parts_s = {part: spent_s / WATCHED_STEPS for part, spent_s in seconds_of_parts(profiler.events()).items()}
        table = self.data.samples[rows]
        return Measured(
            elapsed_s=elapsed_s,
            num_tokens=int(table["tokens"].sum()),
            num_frames=int(table["frames"].sum()),
            work=operations_of(table, self.costs),
            peak_per_s=peak_operations(self.engine.device, self.recipe.train.precision, self.engine.num_processes),
            watched_s=watched_s / WATCHED_STEPS,
            parts_s=parts_s,
            peak_memory_gib=peak_gib,
            plan=self._planned(),
        )

    def _run_steps(self, count: int) -> tuple[float, list[int]]:
        """Run the next steps; return their seconds and the samples of all processes (collective)."""
        self.engine.wait_for_device()
        started_s, samples = time.perf_counter(), []
        for _ in range(count):
            step, epoch, draws = next(self.steps)
            with self.engine.region("step"):
                set_rates(self.engine.optimizer.param_groups, rate_factor(step, self.total_steps, self.recipe.optim))
                batches = Stopwatch().step_batches(self._watched_batches())
                optimizer_step(self.engine, self.recipe, self.data, batches, self.data.counts(draws, epoch))
            samples += [draw.sample for draw in draws]
        self.engine.wait_for_device()
        return time.perf_counter() - started_s, samples

    def _watched_batches(self) -> Iterator[PackedBatch]:
        while True:
            with self.engine.region("data"):
                batch = next(self.batches)
            yield batch

    def _planned(self) -> Fit:
        """Return what `dst-dist plan` says for the micro-batches of these steps."""
        engine, num_steps = self.engine, WARM_UP_STEPS + self.num_steps
        largest = largest_micro_batches(self.data, engine.num_processes, self.recipe, num_steps)
        config, room = self.setup.model_files.config, device_memory(engine.device)
        return fit(config, engine.launch_file, engine.num_sharing, room, self.recipe, largest)
