"""Bytes that each process holds and sends, by engine, worked out by hand for a model of known sizes."""

import json

import pytest
import torch

from dst_dist.config import Recipe
from dst_dist.model.model_config import read_model_config
from dst_dist.plan.simulate import build_model
from dst_dist.plan.states import ENGINES, crossing_of, states_of, traffic_of
from dst_dist.recipes.loading import load_recipe
from tests.model.tiny import tiny_config
from tests.train.finished import LORA, recipe_words


@pytest.fixture(scope="module")
def model():
    finetune = {"mode": "full", "train": {"vision": False}}
    return build_model(Recipe.model_validate({"finetune": finetune}), tiny_config(tokens_per_frame=1))


@pytest.fixture(scope="module")
def sizes(model):
    """Return the numbers of trained and of frozen weights."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in model.parameters()) - trained


def test_bytes_of_each_engine_on_two_processes(model, sizes):
    trained, frozen = sizes
    weights = 4 * trained + 2 * frozen  # trained float32, the frozen tower bfloat16
    expected = {
        # weights, masters, gradients, moments
        "ddp": (weights, 0, 4 * trained, 8 * trained),
        "zero2": (weights, 2 * trained, 2 * trained, 4 * trained),
        "zero2_offload": (weights, 0, 0, 0),
        "fsdp": (weights / 2, 0, 2 * trained, 4 * trained),
        "fsdp_no_reshard": (weights / 2, 0, 2 * trained, 4 * trained),
        "hsdp": (weights / 2, 0, 2 * trained, 4 * trained),
    }
    assert tuple(expected) == ENGINES
    for engine, values in expected.items():
        found = states_of(model, engine, 2)
        assert (found.weights, found.masters, found.gradients, found.moments) == pytest.approx(values, abs=2), engine
        assert found.total == sum(vars(found).values())


def test_one_process_shares_and_buffers_nothing(model, sizes):
    for engine in ("ddp", "fsdp", "fsdp_no_reshard"):
        assert states_of(model, engine, 1).buffers == 0
        assert states_of(model, engine, 1).gradients == 4 * sizes[0]


def test_gathered_weights_are_all_without_resharding_and_few_with_it(model, sizes):
    everything = states_of(model, "fsdp_no_reshard", 2).buffers
    assert everything == 4 * sizes[0] + 2 * sizes[1]
    assert 0 < states_of(model, "fsdp", 2).buffers < everything


def test_traffic_by_hand(model, sizes):
    trained, weights = 4 * sizes[0], 4 * sizes[0] + 2 * sizes[1]
    assert traffic_of(model, "ddp", 3, 2) == {"gradients reduced": 2 * trained}
    assert sum(traffic_of(model, "zero2", 3, 2).values()) == 2 * trained
    assert traffic_of(model, "fsdp", 3, 2) == {"weights gathered": 6 * weights, "gradients reduced": trained}
    assert traffic_of(model, "fsdp_no_reshard", 3, 2)["weights gathered"] == weights
    shares = {"gradients reduced between nodes": trained / 2}
    assert traffic_of(model, "hsdp", 3, 4) == traffic_of(model, "fsdp", 3, 4) | shares


def test_what_crosses_nodes_by_hand(model, sizes):
    """Four processes a node: an all-reduce of the gradients crosses twice, and with sharding the weights too."""
    trained, weights = 4 * sizes[0], 4 * sizes[0] + 2 * sizes[1]
    expected = {
        "ddp": 2 * trained,
        "zero2": 2 * trained,
        "zero2_offload": 2 * trained,
        "fsdp": 6 * weights + trained,
        "fsdp_no_reshard": weights + trained,
        "hsdp": 2 * trained,
    }
    assert {engine: crossing_of(model, engine, 3, 4) for engine in ENGINES} == pytest.approx(expected, abs=8)


def test_an_optimizer_that_has_stepped_holds_these_moments(sizes):
    """Weights and moments of a real step on one process."""
    recipe = Recipe.model_validate({"finetune": {"mode": "full", "train": {"vision": False}}})
    model = build_model(recipe, tiny_config(tokens_per_frame=1))
    states = states_of(model, "ddp", 1)
    real = [torch.nn.Parameter(torch.zeros(p.shape, dtype=p.dtype)) for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(real)
    for parameter in real:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = sum(v.nbytes for state in optimizer.state.values() for v in state.values() if v.ndim)
    assert states.moments == moments and states.gradients == sum(parameter.grad.nbytes for parameter in real)


@pytest.mark.parametrize("engine", ["zero2", "fsdp"])
def test_two_processes_hold_what_was_planned(starter, demo_words, tmp_path, engine):
    """A real training holds it before its second update; `weights` and the rest are within 1 %."""
    (tmp_path / "found").mkdir()
    words = recipe_words(
        demo_words, tmp_path / "run", *LORA, "train.precision=bf16", "train.max_steps=2", "data.val=[]"
    )
    module = "tests.plan.measured_states", str(tmp_path / "found")
    starter.run(f"cpu_{engine}", words, tmp_path / "run", module=module).check()
    recipe = load_recipe(words)
    planned = states_of(build_model(recipe, read_model_config(recipe.model.name_or_path)), engine, 2)
    for rank in range(2):
        found = json.loads((tmp_path / f"found/{rank}.json").read_text())
        assert found == {name: pytest.approx(getattr(planned, name), rel=0.01) for name in found}
