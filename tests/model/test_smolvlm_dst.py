import json

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForImageTextToText,
    LlamaConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMVisionConfig,
)

from dst_dist.config import Loss
from dst_dist.errors import ConfigError
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import SmolVLMForDST, frame_grid, pool_patches
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
    """What stock transformers makes of the same weights, ids and pixels."""
    stock = SmolVLMForConditionalGeneration(model.config).eval()
    stock.load_state_dict({name: model.state_dict()[name] for name in stock.state_dict()})
    pixels = (batch.frames.float() / 255 - 0.5) / 0.5
    return stock(input_ids=batch.input_ids[None], pixel_values=pixels[None]).logits[0]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def backward(model, batch, counts=None):
    counts = count_terms(batch) if counts is None else counts
    loss, _ = compute_loss(model(**inputs(batch)), batch, counts, Loss(), "classes")
    loss.backward()
    return loss.detach()


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


def test_stock_transformers_opens_what_is_saved(tmp_path):
    model = tiny_model(tokens_per_frame=9)
    model.save_pretrained(tmp_path)
    assert "segmented_causal" not in (tmp_path / "config.json").read_text()
    batch = pack([sample(model.config, 2, seed=1)])
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert type(stock) is SmolVLMForConditionalGeneration
    pixels = batch.frames.float() / 127.5 - 1
    with torch.no_grad():
        theirs = stock(input_ids=batch.input_ids[None], pixel_values=pixels[None]).logits[0]
        torch.testing.assert_close(model(**inputs(batch)).lm_logits, theirs[batch.lm_positions])


def test_config_and_heads_survive_saving(tmp_path):
    model = tiny_model(tokens_per_frame=4, dst_threshold=0.3)
    model.save_pretrained(tmp_path)
    again = SmolVLMForDST.from_pretrained(tmp_path)
    config = again.config
    assert (config.tokens_per_frame, config.dst_threshold, config.speaking_threshold) == (4, 0.3, None)
    assert torch.equal(again.dst_update_head.weight, model.dst_update_head.weight)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "smolvlm"


# Frame tokens


@pytest.mark.parametrize("tokens", [1, 4, 9])
def test_a_frame_has_exactly_k_embeddings(tokens):
    model = tiny_model(tokens_per_frame=tokens)
    assert model.encode_frames(random_frames(5)).shape == (5, tokens, 32)


@pytest.mark.parametrize("tokens", [1, 4, 9])
def test_pooling_averages_the_connectors_grid(tokens):
    model, side = tiny_model(tokens_per_frame=tokens), int(tokens**0.5)
    frames = random_frames(3)
    with torch.no_grad():
        whole = model.model.connector(model.model.vision_model(frames.float() / 127.5 - 1).last_hidden_state)
        grid = whole.transpose(1, 2).reshape(3, 32, 3, 3)
        expected = F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)
        torch.testing.assert_close(model.encode_frames(frames), expected)


@pytest.mark.parametrize(("side", "expected"), [(1, [5]), (2, [3, 4, 6, 7]), (3, list(range(1, 10)))])
def test_pool_patches_by_hand(side, expected):
    patches = torch.arange(1.0, 10).reshape(1, 9, 1)
    assert pool_patches(patches, 1, side).flatten().tolist() == expected


def test_pool_patches_averages_patches_of_the_same_place_within_their_cell():
    # A grid of 2 x 2 cells of 2 x 2 patches; each patch says its place within its cell.
    patches = torch.tensor([[0.0, 1], [2, 3]]).repeat(2, 2).reshape(1, 16, 1)
    assert pool_patches(patches, 2, 1).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("tokens", [2, 8, 16, 81, -1])
def test_an_impossible_number_of_frame_tokens_names_the_possible_ones(tokens):
    with pytest.raises(ConfigError, match="tokens_per_frame.*1, 4, 9$"):
        SmolVLMForDST(tiny_config(tokens_per_frame=tokens))


@pytest.mark.parametrize(("size", "patch", "scale", "grid"), [(384, 14, 3, 9), (512, 16, 4, 8)])
def test_the_grids_of_the_published_models(size, patch, scale, grid):
    assert frame_grid(tiny_config(image_size=size, patch_size=patch, scale_factor=scale)) == grid


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_wrong_number_of_image_tokens_is_refused(extra):
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 2, seed=1)])
    batch.input_ids[0 if extra == 1 else 4] = IMAGE_TOKEN if extra == 1 else 5
    with pytest.raises(ValueError, match=f"{8 + extra} image tokens, but 2 frames of 4"):
        model(**inputs(batch))


def test_an_all_zero_frame_is_a_frame():
    model = tiny_model(tokens_per_frame=1)
    batch = pack([sample(model.config, 3, seed=1)])
    batch.frames[1] = 0
    assert model(**inputs(batch)).decision_logits["dst_update"].shape == (3, 2)
    embeddings = model.encode_frames(batch.frames)
    torch.testing.assert_close(embeddings[1:2], model.encode_frames(torch.zeros(1, 3, 48, 48, dtype=torch.uint8)))


# What depends on what


@pytest.mark.parametrize("changed", range(5))
def test_a_frame_changes_its_own_place_and_what_follows_in_its_sample_only(changed):
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 3, seed=1), sample(model.config, 2, seed=2)])
    before = model.hidden_states(batch.input_ids, batch.frames, batch.segment_lengths)
    batch.frames[changed] = random_frames(1, seed=9)[0]
    after = model.hidden_states(batch.input_ids, batch.frames, batch.segment_lengths)
    differs = (before != after).any(-1)
    place = (batch.input_ids == IMAGE_TOKEN).nonzero().squeeze(1)[4 * changed]
    end = batch.segment_lengths[0] if changed < 3 else sum(batch.segment_lengths)
    expected = torch.zeros_like(differs)
    expected[place:end] = True
    assert torch.equal(differs, expected)


def test_gradients_reach_the_frames_before_the_last_counted_position_and_no_other(monkeypatch):
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 4, seed=1), sample(model.config, 2, seed=2)])
    embeddings = model.encode_frames(batch.frames).detach().requires_grad_()
    monkeypatch.setattr(model, "encode_frames", lambda frames, min_calls: embeddings)
    # Counted: the first sample's decisions at its frames 0 and 2; nothing of the second sample.
    batch.lm_positions, batch.lm_targets, batch.lm_is_dst = (batch.lm_positions[:0],) * 3
    batch.decisions["dst_update"] = torch.tensor([1, -100, 0, -100, -100, -100])
    batch.decisions["speaking"] = torch.full((6,), -100)
    backward(model, batch)
    reached = (embeddings.grad != 0).any(-1)
    assert reached[:3].all() and not reached[3:].any()


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


def count_calls(model):
    calls = []
    model.model.vision_model.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    return calls


@pytest.mark.parametrize(
    ("frames", "batch_size", "min_calls", "expected"),
    [
        (7, 64, 1, [7]),
        (7, 3, 1, [3, 2, 2]),
        (7, 64, 3, [3, 2, 2]),
        (2, 64, 3, [1, 1, 1]),
        (0, 64, 1, [1]),
        (0, 64, 2, [1, 1]),
    ],
)
def test_the_tower_runs_in_chunks_and_as_often_as_asked(frames, batch_size, min_calls, expected):
    model = tiny_model(tokens_per_frame=4)
    whole = model.encode_frames(random_frames(frames))
    model.vision_batch_size = batch_size
    calls = count_calls(model)
    torch.testing.assert_close(model.encode_frames(random_frames(frames), min_calls), whole)
    assert calls == expected


def test_chunks_and_blank_frames_leave_the_gradients_alone():
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 3, seed=1)])
    backward(model, batch)
    whole = gradients(model)
    model.zero_grad()
    model.vision_batch_size = 2
    output = model(**inputs(batch), min_vision_calls=5)
    compute_loss(output, batch, count_terms(batch), Loss(), "classes")[0].backward()
    torch.testing.assert_close(gradients(model), whole, rtol=1e-4, atol=1e-6)


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


def test_loading_in_bf16_keeps_the_heads_in_float32(tmp_path):
    tiny_model(tokens_per_frame=4).save_pretrained(tmp_path)
    model = SmolVLMForDST.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.speaking_head.weight.dtype == torch.float32
    assert model.lm_head.weight.dtype == torch.bfloat16
    output = model(**inputs(pack([sample(model.config, 2, seed=1)])))
    assert output.decision_logits["speaking"].dtype == torch.float32


# Heads


def test_heads_are_xavier_uniform_with_zero_bias():
    # The bound is sqrt(6 / (32 + 2)); the text model's own initialisation is normal with 0.1.
    bound = (6 / 34) ** 0.5
    weights = torch.cat([tiny_model(seed).dst_update_head.weight.flatten() for seed in range(4)])
    assert weights.abs().max() <= bound and weights.abs().max() > 0.95 * bound
    assert weights.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not tiny_model().speaking_head.bias.any()


def test_heads_read_the_state_after_the_final_norm_at_their_positions():
    model = tiny_model(tokens_per_frame=4)
    batch = pack([sample(model.config, 3, seed=1)])
    normed = []
    model.model.text_model.norm.register_forward_hook(lambda module, args, output: normed.append(output[0]))
    output = model(**inputs(batch))
    expected = model.dst_update_head(normed[0][batch.decision_positions])
    torch.testing.assert_close(output.decision_logits["dst_update"], expected)


def test_fsdp_units_are_whole_layers():
    assert tiny_model()._no_split_modules == {"SmolVLMEncoderLayer", "LlamaDecoderLayer"}
