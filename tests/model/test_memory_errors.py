"""An error for running out of memory names the micro-batch or the update, and what would need less."""

from types import SimpleNamespace

import pytest
import torch

from dst_dist.model.memory_errors import memory_error_of_batch, memory_error_of_update


def test_the_error_names_step_sizes_and_samples_of_the_micro_batch():
    draws = [SimpleNamespace(sample=3), SimpleNamespace(sample=5)]
    spec = SimpleNamespace(step=6, draws=draws)
    batch = SimpleNamespace(spec=spec, input_ids=torch.zeros(40), frames=torch.zeros(8, 3, 2, 2))
    data = SimpleNamespace(sample_id=lambda sample: f"clip-{sample}")
    with pytest.raises(RuntimeError, match="tried to allocate 2 GiB") as error, memory_error_of_batch(data, batch):
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")
    sizes = "step 7: out of memory in a micro-batch of 2 samples, 40 tokens and 8 frames (clip-3, clip-5)"
    assert str(error.value).startswith(f"{sizes}: lower train.max_tokens, ")


def test_the_error_of_an_update_names_what_needs_less():
    message = "^step 1: out of memory in the update.*launch/fsdp.yaml"
    with pytest.raises(RuntimeError, match=message), memory_error_of_update(0):
        raise torch.OutOfMemoryError("no memory")


def test_other_errors_pass():
    with pytest.raises(KeyError), memory_error_of_update(0):
        raise KeyError
