"""Frames: K embeddings each, in the tower's chunks, and what depends on them."""

import pytest
import torch
import torch.nn.functional as F

from dst_dist.config import Loss
from dst_dist.model.losses import compute_loss
from tests.model.finetuning import backward, gradients
from tests.model.tiny import IMAGE_TOKEN, count_terms, inputs, pack, random_frames, sample, tiny_model

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


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_wrong_number_of_image_tokens_is_an_error(extra):
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


@pytest.mark.parametrize(
    "frames",
    [random_frames(2).float(), random_frames(2)[:, :, ::2], random_frames(2)[:, :, :, :12], random_frames(2)[0]],
    ids=["float", "half as high", "narrow", "one frame"],
)
def test_frames_of_another_dtype_or_size_are_errors(frames):
    with pytest.raises(ValueError, match=r"frames must be uint8 \[N, 3, 48, 48\], or features of .* found torch\."):
        tiny_model().encode_frames(frames)


# What depends on a frame


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


# The tower in chunks


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
def test_the_tower_runs_in_chunks_and_at_least_min_calls_times(frames, batch_size, min_calls, expected):
    model = tiny_model(tokens_per_frame=4)
    whole = model.encode_frames(random_frames(frames))
    model.vision_batch_size = batch_size
    calls = count_calls(model)
    torch.testing.assert_close(model.encode_frames(random_frames(frames), min_calls), whole)
    assert calls == expected


@pytest.mark.parametrize("min_calls", [1, 2, 9])
def test_frames_give_the_same_bits_in_any_order_of_memory(min_calls):
    """A convolution sums in another order where a pixel's values are together, unless its input is rearranged."""
    model, given = tiny_model(tokens_per_frame=4), []
    model.model.vision_model.register_forward_pre_hook(lambda module, args: given.append(args[0].is_contiguous()))
    frames = random_frames(7)
    together = frames.contiguous(memory_format=torch.channels_last)
    assert together.stride() != frames.stride()
    assert torch.equal(model.encode_frames(together, min_calls), model.encode_frames(frames, min_calls))
    assert given and all(given)


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


# Features


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("tokens, dtype", [(1, None), (4, None), (9, None), (4, torch.bfloat16)])
def test_features_in_place_of_frames_give_the_same_logits_and_gradients(tokens, dtype, behind):
    model = tiny_model(tokens_per_frame=tokens)
    model.compute_dtype = dtype
    model.model.vision_model.requires_grad_(False)
    model.model.connector.requires_grad_(not behind)
    batch = pack([sample(model.config, 3, seed=1), sample(model.config, 2, seed=2)])
    counts = count_terms(batch)
    found = []
    features = model.frame_features(batch.frames, behind)
    assert features.dtype == (dtype or torch.float32)
    assert features.shape[1:] == (model.embedding_shape if behind else model.patch_shape)
    for frames in (batch.frames, features):
        batch.frames = frames
        loss, _ = compute_loss(model(**inputs(batch)), batch, counts, Loss(), "classes")
        loss.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None} | {"": loss})
        model.zero_grad()
    live, cached = found
    assert live.keys() == cached.keys() and any("connector" in name for name in live) != behind
    assert all(torch.equal(live[name], cached[name]) for name in live)


def test_a_trained_connector_stays_in_the_graph_without_a_frame():
    model = tiny_model(tokens_per_frame=1)
    features = model.frame_features(random_frames(2), behind_connector=False)[:0]
    model.encode_frames(features).sum().backward()
    grads = [parameter.grad for parameter in model.model.connector.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)
