"""In bf16 every trained tensor gets its gradient, and 200 steps at a small rate move it, on every engine."""

import itertools

import pytest
import torch
from safetensors.torch import load_file

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
MODES = {
    "full": (),
    "lora": ("finetune.mode=lora", "finetune.lora={rank: 8, alpha: 16}"),
}
ONE_TOWER_CALL, THREE_TOWER_CALLS = ("model.vision_batch_size=16",), ("model.vision_batch_size=6",)
MOVED_SHARE = 0.9
GRADIENT_TOLERANCE = 0.02

ORDINARY = (
    ("cpu_ddp", "full"), ("cpu_zero2", "lora"), ("cpu_zero2_offload", "full"),
    ("cpu_fsdp", "lora"), ("cpu_fsdp_no_reshard", "full"),
)  # fmt: skip
LONG = tuple(pair for pair in itertools.product(ENGINES, MODES) if pair not in ORDINARY)


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
        for _ in range(200):
            weight = weight + (2e-6 * torch.randn(128, 128).sign()).to(dtype)
        assert (moved_share(start.to(dtype), weight) > MOVED_SHARE) == enough


@pytest.fixture(scope="module")
def one_process_gradients(tmp_path_factory, demo_words):
    """By mode, every parameter's gradient in the first step on one process, each sample's tower in one call."""
    folder = tmp_path_factory.mktemp("one_process")
    gradients = {}

    def of(mode):
        if mode not in gradients:
            words = (*RECIPE, *MODES[mode], *ONE_TOWER_CALL, *demo_words, "train.max_steps=1")
            file = folder / f"{mode}.safetensors"
            launch(None, words, folder / mode, module=("tests.train.recording", str(file))).check()
            gradients[mode] = load_file(file)
        return gradients[mode]

    return of


def check_bf16(engine, mode, one_process_gradients, demo_words, tmp_path):
    words = (*RECIPE, *MODES[mode], *THREE_TOWER_CALLS, *demo_words, "train.max_steps=200")
    file = tmp_path / "gradients.safetensors"
    run = launch(engine, words, tmp_path / "run", module=("tests.train.recording", str(file))).check()

    expected, gradients = one_process_gradients(mode), load_file(file)
    far = comparing.tensor_differences(gradients, expected, {name: torch.zeros_like(g) for name, g in expected.items()})
    assert {name: share for name, share in far.items() if share > GRADIENT_TOLERANCE} == {}

    initial = comparing.initial_weights(words, tmp_path / "initial")
    final = comparing.weights_of(run.folder / "final")
    assert {tensor.dtype for tensor in final.values()} == {torch.float32}
    shares = {name: moved_share(initial[name], final[name]) for name in final}
    print(engine, mode, "least moved", min(shares.values()), "gradient", max(far.values()))
    assert {name: share for name, share in shares.items() if share < MOVED_SHARE} == {}


@pytest.mark.parametrize("engine, mode", ORDINARY)
def test_every_trained_tensor_moves(engine, mode, one_process_gradients, demo_words, tmp_path):
    check_bf16(engine, mode, one_process_gradients, demo_words, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("engine, mode", LONG)
def test_every_trained_tensor_moves_everywhere(engine, mode, one_process_gradients, demo_words, tmp_path):
    check_bf16(engine, mode, one_process_gradients, demo_words, tmp_path)
