"""`dst-dist plan` tells the steps, memory, traffic and time of a recipe before it is launched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from transformers import SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.data.balance import slowest_over_mean
from dst_dist.data.batching import BatchPlan
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Limits
from dst_dist.errors import ConfigError, collect
from dst_dist.launch_settings import makes_groups
from dst_dist.plan.auto import KEYS
from dst_dist.plan.fit import GIB, Fit, decide, fit, with_train
from dst_dist.plan.micro_batches import Largest, largest_micro_batches
from dst_dist.plan.needs import needs_lines
from dst_dist.plan.simulate import build_model, logits_bytes
from dst_dist.plan.states import BETWEEN_NODES, ENGINES, crossing_of, traffic_of
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup


@dataclass(frozen=True)
class Machine:
    """The machine that a recipe is planned for.

    Attributes:
        engine: a file of launch/, without its ending or `cpu_`.
        processes_per_node: GPUs of a node; `hsdp` shards within one.
        gpu_gib: memory of a process's device.
        tokens_per_s: rate of one process, measured by an earlier run; None if unknown.
    """

    engine: str
    processes: int
    gpu_gib: float
    processes_per_node: int = 8
    tokens_per_s: float | None = None

    @property
    def num_sharing(self) -> int:
        """Number of processes that share what the engine shards."""
        return min(self.processes, self.processes_per_node) if self._is_hybrid else self.processes

    @property
    def _is_hybrid(self) -> bool:
        return self.engine.removeprefix("cpu_") == "hsdp"

    def check(self) -> None:
        """Raise ConfigError if a plan does not know the engine, or a launch would be refused."""
        if self.engine.removeprefix("cpu_") not in ENGINES:
            raise ConfigError(f"--engine {self.engine}: a plan knows {', '.join(ENGINES)}")
        if self._is_hybrid and not makes_groups(self.processes, self.num_sharing):
            raise ConfigError(
                f"--engine {self.engine}: {self.processes} processes make no groups of {self.num_sharing} that share "
                "weights; make --processes a multiple of --processes-per-node, which must be 2 or more"
            )


def plan_lines(words: Sequence[str], machine: Machine) -> Iterator[str]:
    """Yield lines for people: steps, notes on the data, needs, memory by part, traffic and time.

    Raises:
        ConfigError, DataError: if the recipe, its data or its model cannot be used.
    """
    faults: list[str] = []
    recipe = collect(faults, partial(load_recipe, words))
    collect(faults, machine.check)
    if faults:
        raise ConfigError(faults)
    engine = machine.engine.removeprefix("cpu_")
    setup = DataSetup(recipe, splits=("train",))
    data, config = setup.datasets(setup.check())["train"], setup.model_files.config
    measure = partial(fit, config, engine, machine.num_sharing, int(machine.gpu_gib * GIB))
    largest = partial(largest_micro_batches, data, machine.processes)
    chosen = _decide(recipe, largest, measure)
    plan = BatchPlan(data.weights, recipe.train.global_batch_size, recipe.seed, data.fingerprint)
    steps = recipe.train.max_steps or recipe.train.num_epochs * plan.steps_per_epoch
    tokens, frames = (int(data.weights @ data.samples[name]) for name in ("tokens", "frames"))
    yield f"{machine.engine} on {machine.processes} processes of {machine.gpu_gib:g} GiB"
    yield (
        f"  an epoch: {plan.num_draws} samples, {tokens} tokens, {frames} frames, {plan.steps_per_epoch} steps; "
        f"{steps} steps in all"
    )
    longest = int(data.samples["tokens"].max())
    for line in (*data.notes, *needs_lines(chosen, config, machine.engine, longest)):
        yield f"  {line}"
    size, memory = largest(chosen), measure(chosen, largest(chosen))
    yield from memory_lines(chosen, config, size, memory)
    for key in (key for key in KEYS if getattr(recipe.train, key) == "auto"):
        yield f"  train.{key}: auto is {str(getattr(chosen.train, key)).lower()} here"
    yield from _advice(chosen, largest, measure, memory)
    yield from _traffic_lines(build_model(recipe, config), machine, size.num_a_step)
    yield from time_lines(chosen, machine, plan, data, tokens * steps / plan.steps_per_epoch)


def _traffic_lines(model, machine: Machine, num_a_step: int) -> Iterator[str]:
    """Yield what a process sends in a step of `num_a_step` micro-batches, and what a node sends to others."""
    engine, several_nodes = machine.engine.removeprefix("cpu_"), machine.processes > machine.processes_per_node
    for kind, num_bytes in traffic_of(model, engine, num_a_step, machine.num_sharing).items():
        if several_nodes or kind != BETWEEN_NODES:
            yield f"  sent by a process in a step, {kind}: {num_bytes / GIB:.2f} GiB"
    if several_nodes:
        num_bytes = crossing_of(model, engine, num_a_step, machine.num_sharing)
        yield f"  sent by a node to others in a step: {num_bytes / GIB:.2f} GiB"


def time_lines(
    recipe: Recipe, machine: Machine, plan: BatchPlan, data: SampleDataset, num_tokens: float
) -> Iterator[str]:
    """Yield how many processes have no work, and the hours in which the slowest has done its share of all tokens."""
    samples = min(recipe.train.global_batch_size, plan.num_draws)
    if (idle := machine.processes - samples) > 0:
        yield (
            f"  {idle} of {machine.processes} processes have no work: a step has {samples} samples; take fewer "
            "processes, or set train.global_batch_size higher"
        )
    if machine.tokens_per_s:
        limits = Limits(recipe.train.max_tokens, recipe.train.max_frames)
        waiting = slowest_over_mean(plan, data, limits, machine.processes)
        hours = num_tokens / machine.processes * waiting / machine.tokens_per_s / 3600
        yield (
            f"  at {machine.tokens_per_s:g} tokens/s a process: {hours:.1f} hours; the slowest has {waiting:.1f} times "
            "the mean work"
        )


def _decide(recipe, largest, measure):
    """Return the recipe without `auto`; where nothing fits, the smallest values."""
    try:
        return decide(recipe, largest, measure)
    except ConfigError:
        return with_train(recipe, gradient_checkpointing=True, max_tokens=recipe.data.max_seq_len)


def memory_lines(recipe: Recipe, config: SmolVLMConfig, largest: Largest, memory: Fit) -> Iterator[str]:
    """Yield lines for people: the largest micro-batches, and the memory of a process by part."""
    by_tokens, by_frames, states, work = largest.by_tokens, largest.by_frames, memory.states, memory.micro_batch
    logits = logits_bytes(recipe, config, memory.shape)
    yield (
        f"  largest micro-batches: {by_tokens.num_tokens} tokens with {by_tokens.num_frames} frames, "
        f"{by_frames.num_frames} frames with {by_frames.num_tokens} tokens; {largest.num_a_step} a step"
    )
    parts = {
        "weights": states.weights,
        "master copies": states.masters,
        "gradients": states.gradients,
        "moments": states.moments,
        "buffers of communication": states.buffers,
        "frames": work.frames,
        "vision tower at its peak": work.tower,
        "activations": work.text - logits,
        "logits": logits,
    }
    for name, num_bytes in parts.items():
        yield f"  {name:26} {num_bytes / GIB:8.2f} GiB"
    verdict = "fits" if memory.fits else "does not fit"
    yield f"  {'peak':26} {memory.peak / GIB:8.2f} GiB of {memory.room / GIB:.2f} usable: {verdict}"


def _advice(recipe, largest, measure, memory: Fit) -> Iterator[str]:
    """Yield the keys that would make a plan fit, or nothing if it fits."""
    if memory.fits:
        return
    tried = {
        "train.gradient_checkpointing=true": with_train(recipe, gradient_checkpointing=True),
        f"train.max_tokens={recipe.data.max_seq_len}": with_train(
            recipe, gradient_checkpointing=True, max_tokens=recipe.data.max_seq_len
        ),
    }
    for words, other in tried.items():
        if measure(other, largest(other)).fits:
            yield f"  it fits with {words}"
            return
    yield "  neither checkpointing nor smaller micro-batches are enough: shard with fsdp, or use finetune.mode=lora"
