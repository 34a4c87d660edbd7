"""The model against stock transformers, packed samples, empty micro-batches, precision and heads."""

import math

import pytest
import torch
from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMVisionConfig

from dst_dist.config import Loss
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from tests.model.finetuning import backward, gradients
from tests.model.tiny import IMAGE_TOKEN, count_terms, inputs, pack, random_frames, sample, tiny_config, tiny_model

# Hidden and intermediate sizes, heads, tower and grid as published; one layer of each kind, 1,000 tokens.
TRUE_SHAPES = {
    "256M": (
        dict(hidden_size=576, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3),
        dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, image_size=512, patch_size=16),
        dict(scale_factor=4),
        64,
    ),
    "2.2B": (
        dict(hidden_size=2048, intermediate_size=8192, num_attention_heads=32, num_key_value_heads=32),
        dict(hidden_size=1152, intermediate_size=4304, num_attention_heads=16, image_size=384, patch_size=14),
        dict(scale_factor=3),
        81,
    ),
}


def true_shape_model(name) -> SmolVLMForDST:
    text, vision, others, _ = TRUE_SHAPES[name]
    config = SmolVLMConfig(
        text_config=LlamaConfig(num_hidden_layers=1, vocab_size=1000, pad_token_id=2, rope_theta=1e5, **text),
        vision_config=SmolVLMVisionConfig(num_hidden_layers=1, **vision),
        image_token_id=IMAGE_TOKEN,
        **others,
    )
    torch.manual_seed(0)
    return SmolVLMForDST(config).eval()


def stock_logits(model, batch):
    """Return the logits of stock transformers for the same weights, ids and pixels."""
    stock = SmolVLMForConditionalGeneration(model.config).eval()
    stock.load_state_dict({name: model.state_dict()[name] for name in stock.state_dict()})
    pixels = (batch.frames.float() / 255 - 0.5) / 0.5
    return stock(input_ids=batch.input_ids[None], pixel_values=pixels[None]).logits[0]


# Against the stock model


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_whole_grid_is_the_stock_model(kv_heads):
    model = tiny_model(kv_heads=kv_heads)
    assert model.config.tokens_per_frame == 9
    batch = pack([sample(model.config, 3, seed=1)])
    with torch.no_grad():
        ours = model.lm_head(model.hidden_states(batch.input_ids, batch.frames, batch.segment_lengths))
        torch.testing.assert_close(ours, stock_logits(model, batch))


@pytest.mark.parametrize("name", TRUE_SHAPES)
def test_the_whole_grid_is_the_stock_model_at_the_true_shapes(name):
    model = true_shape_model(name)
    assert model.config.tokens_per_frame == TRUE_SHAPES[name][3]
    batch = pack([sample(model.config, 2, seed=1)])
    with torch.no_grad():
        ours = model(**inputs(batch)).lm_logits
        theirs = stock_logits(model, batch)[batch.lm_positions]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# Packed samples


def test_packed_samples_equal_the_same_samples_alone():
    model = tiny_model(tokens_per_frame=4)
    samples = [sample(model.config, 3, seed=1), sample(model.config, 1, seed=2), sample(model.config, 2, seed=3)]
    packed = pack(samples)
    loss, counts = backward(model, packed), count_terms(packed)
    together = gradients(model)
    model.zero_grad()
    alone = sum(backward(model, pack([item]), counts) for item in samples)
    torch.testing.assert_close(loss, alone)
    torch.testing.assert_close(together, gradients(model), rtol=1e-4, atol=1e-6)


def test_positions_restart_in_each_sample():
    # Rotary attention sees differences only, so no output would show it.
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 1, seed=1), sample(model.config, 0, seed=2)])
    seen = []
    model.model.text_model.rotary_emb.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    model(**inputs(batch))
    assert seen[0].tolist() == [[*range(13), *range(9)]]


# The same modules on every process


@pytest.mark.parametrize("empty", ["frames", "lm", "decisions", "all"])
def test_every_parameter_gets_a_gradient_whatever_is_missing(empty):
    model = tiny_model(tokens_per_frame=1)
    batch = pack([sample(model.config, 0 if empty in ("frames", "all") else 2, seed=1)])
    if empty in ("lm", "all"):
        batch.lm_positions, batch.lm_targets, batch.lm_is_dst = (batch.lm_positions[:0],) * 3
    if empty in ("decisions", "all"):
        batch.decision_positions, batch.decisions["dst_update"], batch.decisions["speaking"] = (
            batch.decision_positions[:0],
        ) * 3
    output = model(**inputs(batch))
    assert output.lm_logits.shape == (len(batch.lm_positions), 64) and output.anchor.item() == 0
    assert output.decision_logits["speaking"].shape == (len(batch.decision_positions), 2)
    backward(model, batch)
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    if empty == "all":
        assert not any(p.grad.any() for p in model.parameters())
    if empty == "frames":
        assert not model.model.connector.modality_projection.proj.weight.grad.any()
        assert model.lm_head.weight.grad.any()


def test_an_empty_micro_batch_is_one_pad_token():
    model = tiny_model(tokens_per_frame=1)
    none = torch.zeros(0, dtype=torch.long)
    output = model(torch.tensor([2]), random_frames(0), [1], none, none)
    output.anchor.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or p.grad.any()]


def test_a_padding_token_that_is_in_use_learns(tmp_path):
    """SmolVLM2's padding token is not in use; another model may pad with its end of turn."""
    config = tiny_config()
    config.text_config.pad_token_id = 5
    model = SmolVLMForDST(config)
    model.hidden_states(torch.tensor([5, 6, 7]), torch.empty(0, 3, 48, 48, dtype=torch.uint8), [3]).sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[5].abs().max() > 0 and gradient[8].abs().max() == 0


# Precision


def test_heads_compute_in_float32_under_bf16():
    model = tiny_model(tokens_per_frame=4)
    model.compute_dtype = torch.bfloat16
    batch = pack([sample(model.config, 3, seed=1)])
    output = model(**inputs(batch))
    assert output.lm_logits.dtype == torch.bfloat16
    assert (
        output.decision_logits["dst_update"].dtype
        == output.decision_logits["speaking"].dtype
        == output.anchor.dtype
        == torch.float32
    )
    hidden = model.hidden_states(batch.input_ids, batch.frames, batch.segment_lengths)
    expected = model.speaking_head(hidden[batch.decision_positions].float())
    torch.testing.assert_close(output.decision_logits["speaking"], expected, rtol=0, atol=0)


def test_an_outer_autocast_does_not_reach_the_heads():
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 3, seed=1)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs(batch))
    assert output.lm_logits.dtype == torch.bfloat16 and output.decision_logits["speaking"].dtype == torch.float32


def test_bf16_computes_about_what_float32_does():
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 3, seed=1), sample(model.config, 2, seed=2)])
    exact = model(**inputs(batch))
    model.compute_dtype = torch.bfloat16
    rounded = model(**inputs(batch))
    torch.testing.assert_close(rounded.lm_logits.float(), exact.lm_logits, rtol=0.05, atol=0.05)
    torch.testing.assert_close(
        rounded.decision_logits["dst_update"], exact.decision_logits["dst_update"], rtol=0.05, atol=0.05
    )


# Heads


@pytest.mark.parametrize("balance", ["classes", "none", "focal"])
@pytest.mark.parametrize("scale", [1, 100])
def test_new_heads_are_undecided_whatever_the_scale_of_the_states(balance, scale):
    model = SmolVLMForDST(tiny_config(tokens_per_frame=4))
    with torch.no_grad():
        model.model.text_model.norm.weight.mul_(scale)
    batch = pack([sample(model.config, 3, seed=1), sample(model.config, 2, seed=2)])
    _, terms = compute_loss(model(**inputs(batch)), batch, count_terms(batch), Loss(), balance)
    # Both labels are as likely: -ln(1/2), in the focal loss times (1/2)^2. The bias of 0.01 moves a label by 0.005.
    expected = math.log(2) * (0.25 if balance == "focal" else 1)
    for name in HEAD_NAMES:
        assert terms[name].item() == pytest.approx(expected, abs=0.0051)


def test_a_new_head_s_bias_has_a_first_gradient_that_is_no_rounding():
    """Adam makes a full step of any gradient, so one of rounding alone differs between engines."""
    model = SmolVLMForDST(tiny_config(tokens_per_frame=4))
    batch = pack([sample(model.config, 3, seed=1), sample(model.config, 2, seed=2)])
    compute_loss(model(**inputs(batch)), batch, count_terms(batch), Loss(), "classes")[0].backward()
    # Half of sigmoid(-0.01) - 1/2 for each class, times the term's weight.
    expected = torch.tensor([1.0, -1.0]) * (1 / (1 + math.exp(-0.01)) - 0.5)
    torch.testing.assert_close(model.dst_update_head.bias.grad / Loss().dst_update, expected, rtol=1e-3, atol=1e-6)


def test_new_heads_do_not_overshoot_at_a_full_rate_without_warm_up():
    """From Xavier uniform the second step's loss is 2 to 5: Adam turns the states of all positions the same way."""
    config = tiny_config(tokens_per_frame=1)
    for key, value in {"hidden_size": 1024, "num_attention_heads": 16, "head_dim": 64, "num_hidden_layers": 4}.items():
        setattr(config.text_config, key, value)
    config.text_config.initializer_range = 0.02
    torch.manual_seed(0)
    model = SmolVLMForDST(config)
    batch = pack([sample(config, 8, seed=1), sample(config, 8, seed=2)])
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-4), []
    for _ in range(2):
        optimizer.zero_grad()
        total, terms = compute_loss(model(**inputs(batch)), batch, count_terms(batch), Loss(), "classes")
        losses.append((terms["dst_update"] + terms["speaking"]).item())
        total.backward()
        optimizer.step()
    assert losses[1] < losses[0]


def test_heads_read_the_state_after_the_final_norm_at_their_positions():
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 3, seed=1)])
    normed = []
    model.model.text_model.norm.register_forward_hook(lambda module, args, output: normed.append(output[0]))
    output = model(**inputs(batch))
    expected = model.dst_update_head(normed[0][batch.decision_positions])
    torch.testing.assert_close(output.decision_logits["dst_update"], expected)


def test_probabilities_near_one_differ():
    """In float32 a logit of 18 and one of 20 are both a probability of 1."""
    model = tiny_model()
    with torch.no_grad():
        model.dst_update_head.weight.zero_()
        model.dst_update_head.weight[1, 0] = 1.0
    states = torch.zeros(2, model.config.text_config.hidden_size)
    states[:, 0] = torch.tensor([18.0, 20.0])
    lower, higher = model.decide(states)[:, HEAD_NAMES.index("dst_update")].tolist()
    assert lower < higher < 1


def test_fsdp_units_are_whole_layers():
    assert tiny_model()._no_split_modules == {"SmolVLMEncoderLayer", "LlamaDecoderLayer"}
