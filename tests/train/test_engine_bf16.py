"""In bf16 every trained tensor gets its gradient, and steps at a small rate move it, on every engine."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file

from dst_dist.data.batching import BatchPlan, micro_batches
from dst_dist.model.loading import load_model
from dst_dist.model.losses import compute_loss
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.launching import TINY_RUN, launch
from tests.train import comparing
from tests.train.test_engines import ENGINES

RECIPE = (
    *TINY_RUN,
    "data.train=[kitchen]",
    "train.precision=bf16",
    "train.global_batch_size=2",
    "train.max_frames=16",  # a sample is a micro-batch, on one process and on two
    # A hundredth of the distance between two bf16 numbers near 0.06, this model's usual weight.
    "optim.learning_rate=2e-6",
    "optim.weight_decay=0.0",
    "optim.warmup_steps=0",
    "optim.schedule=constant",
)
MODES = {"full": (), "lora": ("finetune.mode=lora", "finetune.lora={rank: 8, alpha: 16}")}
THREE_TOWER_CALLS = ("model.vision_batch_size=6",)
MOVED_SHARE = 0.9
GRADIENT_TOLERANCE = 0.02

ORDINARY = (
    ("cpu_ddp", "full"),
    ("cpu_zero2", "lora"),
    ("cpu_zero2_offload", "full"),
    ("cpu_fsdp", "lora"),
    ("cpu_fsdp_no_reshard", "full"),
)
ORDINARY_STEPS, LONG_STEPS = 41, 201
"""Odd: a walk of an even number of equal steps to and fro may end where it began."""


def moved_share(before: torch.Tensor, after: torch.Tensor) -> float:
    """The share of a tensor's elements that changed; rows of tokens that do not occur are left out."""
    changed = before != after
    rows = changed.reshape(len(changed), -1) if changed.ndim > 1 else changed[None]
    rows = rows[rows.any(1)]
    return float(rows.float().mean()) if len(rows) else 0.0


def test_rounding_away_is_noticed():
    torch.manual_seed(0)
    start = 0.06 * torch.randn(128, 128)
    for dtype, enough in ((torch.float32, True), (torch.bfloat16, False)):
        weight = start.to(dtype)
        for _ in range(ORDINARY_STEPS):
            weight = weight + (2e-6 * torch.randn(128, 128).sign()).to(dtype)
        assert (moved_share(start.to(dtype), weight) > MOVED_SHARE) == enough


def first_gradients(words):
    """Every trained parameter's gradient in the first step: no engine, a sample at a time, its tower in one call."""
    recipe = load_recipe(words)
    setup = DataSetup(recipe, ("train",))
    data = setup.datasets(setup.check())["train"]
    plan = BatchPlan(data.weights, recipe.train.global_batch_size, recipe.seed, data.fingerprint)
    ((step, epoch, draws),) = plan.steps(0, 1)
    counts = data.counts(draws, epoch)
    model = load_model(recipe)
    for batch in map(data.__getitem__, micro_batches(step, epoch, draws, data.samples, setup.limits, 0, 1)):
        output = model(
            batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions
        )
        compute_loss(output, batch, counts, recipe.loss, recipe.labels.balance)[0].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


def check_bf16(engine, mode, num_steps, demo_words, tmp_path):
    words = (*RECIPE, *MODES[mode], *demo_words, f"train.max_steps={num_steps}")
    file = tmp_path / "gradients.safetensors"
    module = ("tests.train.recording", str(file))
    run = launch(engine, (*words, *THREE_TOWER_CALLS), tmp_path / "run", module=module).check()
    # An epoch's last step has one sample, and so one process without any.
    assert {line["num_samples"] for line in run.metrics()} == {1, 2}

    expected, gradients = first_gradients(words), load_file(file)
    nothing = {name: torch.zeros_like(gradient) for name, gradient in expected.items()}
    far = comparing.tensor_differences(gradients, expected, nothing)
    assert {name: share for name, share in far.items() if share > GRADIENT_TOLERANCE} == {}

    initial = comparing.initial_weights(words, tmp_path / "initial")
    final = comparing.weights_of(run.folder / "final")
    assert {tensor.dtype for tensor in final.values()} == {torch.float32}
    shares = {name: moved_share(initial[name], final[name]) for name in final}
    print(engine, mode, f"least moved {min(shares.values()):.4f}, furthest gradient {max(far.values()):.1e}")
    assert {name: share for name, share in shares.items() if share < MOVED_SHARE} == {}


@pytest.mark.parametrize("engine, mode", ORDINARY)
def test_every_trained_tensor_moves(engine, mode, demo_words, tmp_path):
    check_bf16(engine, mode, ORDINARY_STEPS, demo_words, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("engine, mode", itertools.product(ENGINES, MODES))
def test_every_trained_tensor_moves_everywhere(engine, mode, demo_words, tmp_path):
    check_bf16(engine, mode, LONG_STEPS, demo_words, tmp_path)


def test_hybrid_sharding_reduces_in_float32_within_a_node_and_between_nodes(starter, demo_words, tmp_path):
    """Two by two processes: bf16 is of the computing alone."""
    words = (*RECIPE, *demo_words, "train.max_steps=1", "train.global_batch_size=4")
    env = {"REDUCED": str(tmp_path)}
    starter.run("cpu_hsdp", words, tmp_path / "run", 4, module="tests.train.reducing", env=env).check()
    for rank in range(4):
        seen = json.loads((tmp_path / f"{rank}.json").read_text())
        assert seen == [["all_reduce", "torch.float32", 2], ["reduce_scatter", "torch.float32", 2]]
