"""The LoRA layer: peft's numbers with fewer passes over memory."""

import pytest
import torch
from peft.tuners.lora import Linear

from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.lora_layer import LoraLinear
from dst_dist.model.saving import save_model
from tests.model.finetuning import a_batch, backward, gradients, outputs, recipe, shake


def ours_and_pefts(stock, **settings):
    """Return loss and gradients of the same model, with our layers and with peft's."""
    found = []
    for layer_class in (LoraLinear, Linear):
        model = load_model(recipe(stock, "lora", **settings))
        shake(model)
        layers = [module for module in model.modules() if isinstance(module, Linear)]
        assert len(layers) == 14 and {type(layer) for layer in layers} == {LoraLinear}
        for layer in layers:
            layer.__class__ = layer_class
        torch.manual_seed(3)
        found.append({"loss": backward(model, a_batch(model)), **gradients(model)})
    return found


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.1}], ids=["plain", "dropout"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_scale_that_is_a_power_of_two_gives_pefts_bits(stock, precision, settings):
    ours, pefts = ours_and_pefts(stock, precision=precision, **settings)
    assert [name for name in pefts if not torch.equal(ours[name], pefts[name])] == []


def test_another_scale_gives_pefts_numbers(stock):
    ours, pefts = ours_and_pefts(stock, alpha=6)
    for name, expected in pefts.items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-5 * float(expected.abs().max()), msg=name)


def test_scaled_values_are_as_many_as_the_rank(stock):
    sizes = []
    layer = load_model(recipe(stock, "lora", alpha=6)).base_model.model.model.text_model.layers[0].mlp.up_proj
    layer.lora_B["default"].register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0]))
    x = torch.randn(5, 32)
    layer(x)
    assert torch.equal(sizes[0], layer.lora_A["default"](x) * 1.5)


def test_inputs_stay_in_the_compute_dtype(stock):
    dtypes = []
    layer = load_model(recipe(stock, "lora", precision="bf16")).base_model.model.model.text_model.layers[0].mlp.up_proj
    layer.lora_A["default"].register_forward_pre_hook(lambda module, inputs: dtypes.append(inputs[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.randn(5, 32, dtype=torch.bfloat16))
    assert dtypes == [torch.bfloat16]


@pytest.mark.parametrize("state", ["disabled", "merged"])
def test_an_adapter_that_is_off_or_merged_is_pefts_business(stock, state):
    model = load_model(recipe(stock, "lora", checkpointing=False))
    shake(model)
    batch = a_batch(model)
    trained = outputs(model, batch)
    if state == "merged":
        model.merge_adapter()
        torch.testing.assert_close(outputs(model, batch), trained, rtol=1e-4, atol=1e-4)
    else:
        with model.disable_adapter():
            assert not torch.allclose(outputs(model, batch)[0], trained[0], atol=1e-3)


def test_a_saved_and_merged_adapter_computes_the_same(stock, tmp_path):
    model = load_model(recipe(stock, "lora", alpha=6))
    shake(model)
    save_model(model, model.state_dict(), tmp_path)
    batch = a_batch(model)
    torch.testing.assert_close(
        outputs(load_for_inference(tmp_path), batch), outputs(model, batch), rtol=1e-4, atol=1e-4
    )
