"""Values that `auto` becomes, worked out by hand with a memory that is a straight line."""

import pytest

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.plan.fit import GIB, Fit, decide, usable
from dst_dist.plan.micro_batches import Largest
from dst_dist.plan.simulate import MicroBatchMemory, MicroBatchShape
from dst_dist.plan.states import States


def recipe_of(**train):
    return Recipe.model_validate({"data": {"max_seq_len": 2048}, "train": train})


def largest_of(recipe):
    """The run's micro-batches are as long as the recipe allows."""
    shape = MicroBatchShape((recipe.train.max_tokens,), 10, 10, 10)
    return Largest(shape, shape, 2)


def machine(room, per_token=10, held=1000):
    """Return `fit_of` of a machine with some bytes of room; with checkpointing a token takes a tenth."""

    def fit_of(recipe, largest):
        share = 1 if recipe.train.gradient_checkpointing else 10
        text = largest.by_tokens.num_tokens * per_token * share // 10
        memory = MicroBatchMemory(0, 0, text)
        return Fit(States(held, 0, 0, 0, 0), largest.by_tokens, memory, held + text, room)

    return fit_of


def choice(room, **train):
    chosen = decide(recipe_of(**train), largest_of, machine(room)).train
    return chosen.gradient_checkpointing, chosen.max_tokens


AUTO = {"gradient_checkpointing": "auto", "max_tokens": "auto"}


def test_checkpointing_only_where_it_does_not_fit_without():
    assert choice(82_920, max_tokens=8192) == (False, 8192)
    assert choice(82_919, max_tokens=8192) == (True, 8192)
    assert choice(10, max_tokens=8192) == (True, 8192), "the run will say that memory ends, and what to change"


def test_what_is_not_auto_stays():
    assert choice(10, max_tokens=8192, gradient_checkpointing=False) == (False, 8192)
    assert choice(10**9, max_tokens=8192, gradient_checkpointing=True) == (True, 8192)


def test_the_largest_multiple_of_1024_that_fits():
    """1000 + 10 a token without checkpointing: 50,000 bytes are 4,900 tokens, of which 4,096 are four steps."""
    assert choice(50_000, **AUTO) == (False, 4096)
    assert choice(1000 + 5 * 10240, **AUTO) == (False, 5 * 1024)
    assert choice(1000 + 5 * 10240 - 1, **AUTO) == (False, 4 * 1024)


def test_without_checkpointing_if_a_whole_sample_fits_else_with_it():
    """A sample of 2,048 tokens takes 21,480 bytes without checkpointing, 3,048 with it."""
    assert choice(21_480, **AUTO) == (False, 2048)
    assert choice(21_479, **AUTO) == (True, 19 * 1024)
    with pytest.raises(ConfigError, match="max_tokens: auto: .* data.max_seq_len=2048 tokens does not fit"):
        choice(3047, **AUTO)


def test_no_more_than_a_whole_global_batch():
    assert choice(10**12, **AUTO, global_batch_size=3) == (False, 3 * 2048)


@pytest.mark.parametrize("device_bytes, expected", [(100 * GIB, 94 * GIB), (GIB, 0), (1000, 0)])
def test_a_device_smaller_than_its_context_has_nothing_to_use(device_bytes, expected):
    assert usable(device_bytes) == expected
