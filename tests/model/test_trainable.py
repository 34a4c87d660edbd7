"""The trained parts: their gradients and dtypes, and gradient checkpointing."""

import pytest
import torch
from torch import nn

from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import parameter_groups, unwrap
from tests.model.finetuning import WAYS, a_batch, backward, is_head, outputs, recipe, shake


@pytest.mark.parametrize("way", WAYS)
def test_each_trained_part_gets_its_gradients_and_frozen_parts_none(stock, way):
    mode, parts = WAYS[way]
    model = load_model(recipe(stock, mode, parts))
    shake(model)
    backward(model, a_batch(model))
    groups = parameter_groups(model)
    trained = dict(vision=False, connector=True, text=True, heads=True) | parts
    assert {part: bool(group) for part, group in groups.items()} == trained
    names = {name for group in groups.values() for name, _ in group}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name in names)
        if name in names:
            assert parameter.grad is not None and parameter.grad.any(), name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("way", WAYS)
def test_a_micro_batch_without_frames_or_positions_still_reaches_all_that_is_trained(stock, way):
    model = load_model(recipe(stock, *WAYS[way]))
    batch = a_batch(model, frames=(0,))
    for name in ("lm_positions", "lm_targets", "lm_is_dst", "decision_positions"):
        setattr(batch, name, getattr(batch, name)[:0])
    batch.decisions = {head: labels[:0] for head, labels in batch.decisions.items()}
    assert backward(model, batch) == 0
    for group in parameter_groups(model).values():
        assert not [name for name, parameter in group if parameter.grad is None or parameter.grad.any()]


def test_full_mode_trains_embeddings_and_language_head_with_the_text_model(stock):
    names = {name for name, _ in parameter_groups(load_model(recipe(stock, "full")))["text"]}
    assert {"model.text_model.embed_tokens.weight", "lm_head.weight"} <= names
    names = {name for name, _ in parameter_groups(load_model(recipe(stock, "lora")))["text"]}
    assert names and all(".lora_" in name for name in names)


# Gradient checkpointing and the frozen tower


@pytest.mark.parametrize("way", ["lora", "full", "everything", "lora-and-vision"])
def test_checkpointing_changes_no_gradient(stock, way):
    found = []
    for checkpointing in (False, True):
        model = load_model(recipe(stock, *WAYS[way], checkpointing=checkpointing))
        shake(model)
        loss = backward(model, a_batch(model))
        found.append((loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def count_layer_runs(layers):
    """Count from now on the runs of these layers, those with gradients on, and outputs in the graph."""
    runs = dict(all=0, with_grad=0, in_graph=0)

    def count(module, args, output):
        runs["all"] += 1
        runs["with_grad"] += torch.is_grad_enabled()
        runs["in_graph"] += output.requires_grad

    for layer in layers:
        layer.self_attn.register_forward_hook(lambda module, args, output: count(module, args, output[0]))
    return runs


@pytest.mark.parametrize("way", ["lora", "full", "connector-alone"])
def test_a_frozen_tower_stays_out_of_the_graph_under_checkpointing(stock, way):
    model = load_model(recipe(stock, *WAYS[way]))
    tower = count_layer_runs(unwrap(model).model.vision_model.encoder.layers)
    text = count_layer_runs(unwrap(model).model.text_model.layers)
    backward(model, a_batch(model))
    assert tower == dict(all=2, with_grad=0, in_graph=0)
    # Two layers, run again in the backward pass: checkpointing is on where it should be.
    assert text["all"] == 4


def test_a_trained_tower_is_checkpointed(stock):
    model = load_model(recipe(stock, *WAYS["everything"]))
    tower = count_layer_runs(unwrap(model).model.vision_model.encoder.layers)
    backward(model, a_batch(model))
    assert tower["all"] == 4


def test_a_frozen_tower_saves_nothing_for_the_backward_pass(stock):
    def saved_bytes(parts):
        model = load_model(recipe(stock, "full", parts, checkpointing=False))
        total = 0

        def pack_hook(tensor):
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
            unwrap(model).encode_frames(a_batch(model).frames)
        return total

    # The connector alone: 5 frames of 4 tokens of 64 floats, and its weight of 64 x 32.
    assert saved_bytes({}) <= 4 * (5 * 4 * 64 + 64 * 32)
    assert saved_bytes(dict(vision=True)) > 100_000


# Dtypes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_trained_parameters_and_heads_are_float32_and_frozen_ones_follow_the_precision(stock, way, precision):
    model = load_model(recipe(stock, *WAYS[way], precision=precision))
    dtypes = {True: set(), False: set()}
    for name, parameter in model.named_parameters():
        dtypes[parameter.requires_grad or is_head(name)].add(parameter.dtype)
    assert dtypes[True] == {torch.float32}
    assert dtypes[False] <= {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert unwrap(model).compute_dtype == (torch.bfloat16 if precision == "bf16" else None)


@pytest.mark.parametrize("way", ["lora", "everything"])
def test_small_steps_in_bf16_move_every_trained_tensor(stock, way):
    model = load_model(recipe(stock, *WAYS[way], precision="bf16"))
    trained = [item for group in parameter_groups(model).values() for item in group]
    before = {name: parameter.detach().clone() for name, parameter in trained}
    optimizer = torch.optim.AdamW([parameter for _, parameter in trained], lr=1e-6, weight_decay=0.0)
    batch = a_batch(model)
    for _ in range(5):
        optimizer.zero_grad()
        backward(model, batch)
        optimizer.step()
    for name, parameter in trained:
        moved = (parameter != before[name]).float().mean()
        # Most words of the vocabulary do not occur in the batch.
        assert moved > (0.1 if "embed_tokens" in name else 0.9), name


# Wrappers


class Wrapper(nn.Module):
    """Wraps a model as DDP and DeepSpeed's engine do."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, **kwargs):
        return self.module(**kwargs)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_wrappers_change_neither_parts_nor_what_is_saved(stock, tmp_path, mode):
    model = load_model(recipe(stock, mode))
    wrapped = Wrapper(model)
    assert unwrap(wrapped) is unwrap(model) and type(unwrap(wrapped)) is SmolVLMForDST
    sizes = [{part: len(group) for part, group in parameter_groups(each).items()} for each in (model, wrapped)]
    assert sizes[0] == sizes[1]
    save_model(wrapped, model.state_dict(), tmp_path)
    torch.testing.assert_close(outputs(load_for_inference(tmp_path), a_batch(model)), outputs(model, a_batch(model)))
