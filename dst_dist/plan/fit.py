"""Tells whether a recipe fits into a device's memory, and chooses the values of `auto` that make it fit."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.plan.micro_batches import Largest, full_micro_batch
from dst_dist.plan.simulate import MicroBatchMemory, MicroBatchShape, build_model, micro_batch_memory
from dst_dist.plan.states import States, states_of

GIB = 2**30
CONTEXT_BYTES = GIB
"""CUDA's context and libraries."""
USABLE_SHARE = 0.95
"""Share of a device's memory that tensors can use; the rest is lost between blocks of the allocator."""
TOKENS_STEP = 1024
"""`train.max_tokens: auto` is a multiple of it."""


@dataclass(frozen=True)
class Fit:
    """The memory of a process under a recipe, in bytes."""

    states: States
    shape: MicroBatchShape
    """The micro-batch that takes the most."""
    micro_batch: MicroBatchMemory
    peak: int
    room: int

    @property
    def fits(self) -> bool:
        return self.peak <= self.room


def usable(device_bytes: int) -> int:
    """Return the bytes of a device that a run may plan with."""
    return max(0, int(USABLE_SHARE * device_bytes) - CONTEXT_BYTES)


def fit(
    config: SmolVLMConfig, engine: str, num_processes: int, device_bytes: int, recipe: Recipe, largest: Largest
) -> Fit:
    """Return the memory of a process under a recipe without `auto`.

    The peak is that of forward and backward of the larger micro-batch. If a step has several, gradients of the earlier
    ones are there too.

    Args:
        engine: one of `states.ENGINES`.
        num_processes: number that share what the engine shards.
    """
    states = states_of(build_model(recipe, config), engine, num_processes)
    several, trained = largest.num_a_step > 1, recipe.finetune.train.vision
    shapes = {largest.by_tokens, largest.by_frames}
    memories = {shape: micro_batch_memory(recipe, config, shape, several) for shape in shapes}
    shape, memory = max(memories.items(), key=lambda item: item[1].peak(trained))
    held = states.total - (0 if several else states.gradients)
    peak = max(states.total, held + memory.peak(trained))
    return Fit(states, shape, memory, peak, usable(device_bytes))


def with_train(recipe: Recipe, **values: object) -> Recipe:
    """Return the recipe with other values in its section `train`."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=values)})


def decide(recipe: Recipe, largest_of: Callable[[Recipe], Largest], fit_of: Callable[[Recipe, Largest], Fit]) -> Recipe:
    """Return the recipe with numbers in place of `auto`.

    Gradient checkpointing is on only where the run does not fit without it. `max_tokens` is the largest multiple of
    TOKENS_STEP that fits, `data.max_seq_len` at least.

    Args:
        largest_of: returns the largest micro-batches of a recipe; only its `train.max_tokens` changes.
        fit_of: returns the memory of a recipe and its largest micro-batches.

    Raises:
        ConfigError: if not even micro-batches of `data.max_seq_len` tokens fit.
    """
    asked = recipe.train.gradient_checkpointing
    choices = (False, True) if asked == "auto" else (asked,)
    for checkpointing in choices:
        tried = with_train(recipe, gradient_checkpointing=checkpointing)
        if recipe.train.max_tokens == "auto":
            most = _most_tokens(tried, largest_of, fit_of)
            if most is not None:
                return with_train(tried, max_tokens=most)
        elif checkpointing == choices[-1] or fit_of(tried, largest_of(tried)).fits:
            return tried
    raise ConfigError(
        f"train.max_tokens: auto: a micro-batch of data.max_seq_len={recipe.data.max_seq_len} tokens does not fit "
        "into the device's memory; lower data.max_seq_len, or shard more (dst-dist plan shows what takes it)"
    )


def _most_tokens(recipe: Recipe, largest_of: Callable, fit_of: Callable) -> int | None:
    """Return the most tokens of a micro-batch that fit; None if not even a sample does."""
    longest = recipe.data.max_seq_len
    first, like = -(-longest // TOKENS_STEP), largest_of(with_train(recipe, max_tokens=longest)).by_tokens

    def peak(steps: int) -> Fit:
        shape = full_micro_batch(steps * TOKENS_STEP, longest, like)
        return fit_of(with_train(recipe, max_tokens=steps * TOKENS_STEP), Largest(shape, shape, 2))

    low, high = peak(first), peak(2 * first)
    if not low.fits:
        return None
    # Saved activations grow in a straight line with the tokens.
    per_step = max(1, (high.peak - low.peak) // first)
    most = -(-recipe.train.global_batch_size * longest // TOKENS_STEP)
    return min(most, first + (low.room - low.peak) // per_step) * TOKENS_STEP
