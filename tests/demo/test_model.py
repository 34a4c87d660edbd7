"""The demo's tiny model and its tokenizer."""

import json

import torch
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

from dst_dist.data.token_writer import TokenWriter
from dst_dist.demo.model import write_model
from dst_dist.demo.painter import FRAME_SIZE


def shape_of_two_frames(model) -> tuple[int, ...]:
    pixels = torch.zeros(2, 3, FRAME_SIZE, FRAME_SIZE)
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    seen = model.model.vision_model(pixel_values=pixels, patch_attention_mask=mask).last_hidden_state
    return tuple(model.model.connector(seen).shape)


def test_typed_special_tokens_stay_text(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    writer = TokenWriter(tokenizer, 1)
    turn = writer.turn("user", "".join(tokenizer.get_added_vocab()))
    assert set(turn.body[:-1]).isdisjoint(tokenizer.get_added_vocab().values())


def test_each_choice_of_an_update_is_one_token(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    kitchen = json.loads((demo / "kitchen/train_training.json").read_text())
    assert any(turn["role"] == "DST_UPDATE" for clip in kitchen for turn in clip["conversation"])
    ids = tokenizer.encode(' [{"id": "S4", "transition": "start"}]')
    assert [tokenizer.decode(i) for i in ids] == [' [{"id": "S', "4", '", "transition": "start"}', "]"]


def test_the_model_is_a_tiny_smolvlm2(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    model = SmolVLMForConditionalGeneration.from_pretrained(demo / "model")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    assert 1_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_500_000
    assert tokenizer.eos_token == "<end_of_utterance>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")
    assert model.config.text_config.vocab_size == len(tokenizer)
    for token in ("<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>"):
        assert len(tokenizer.encode(token)) == 1
    assert shape_of_two_frames(model) == (2, 1, model.config.text_config.hidden_size)


def test_without_pixel_shuffle_a_frame_is_nine_tokens(demo, tmp_path):
    write_model(tmp_path, AutoTokenizer.from_pretrained(demo / "model"), seed=0, scale_factor=1)
    model = SmolVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert shape_of_two_frames(model) == (2, 9, model.config.text_config.hidden_size)
