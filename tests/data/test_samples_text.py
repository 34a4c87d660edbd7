"""Samples of whole clips, compared with texts and labels written by hand."""

import pytest

from dst_dist.data.conversation import IGNORE
from dst_dist.data.reading import read_clips
from tests.data.dialogs import (
    TOKENIZERS,
    counts_of,
    decoded,
    make_clip,
    make_maker,
    reply,
    supervised_texts,
    system,
    user,
    whole_sample,
)
from tests.data.handmade import proassist_clip, write_proassist

both_tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS)
PUBLIC_TEXT = (
    "<|im_start|>System: You watch and help.\n\nTask: Assemble a toy\n"
    "Steps:\n- S1: Assemble the chassis.\n- S2: Attach the wheels.\nState: none<end_of_utterance>\n"
    "<image><image>"
    'DST: [{"id": "S1", "transition": "start"}]<end_of_utterance>\n'
    "User: I want to assemble a toy.<end_of_utterance>\n"
    "Assistant: Take the chassis.<end_of_utterance>\n"
    "<image><image><image><image>"
    'DST: [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}]<end_of_utterance>\n'
    "Assistant: Now the wheels.<end_of_utterance>\n"
    "<image><image>"
    'DST: [{"id": "S2", "transition": "complete"}]<end_of_utterance>\n'
)

DIALOG_TEXT = (
    "<|im_start|>System: You watch and help.\n\nTask: Make soup<end_of_utterance>\n"
    "<image><image>"
    "User: What now?<end_of_utterance>\n"
    "Assistant: Chop.<end_of_utterance>\n"
    "<image><image><image><image><image><image>"
    "Assistant: Stir.<end_of_utterance>\n"
)


@pytest.fixture
def dialog(tmp_path):
    """A ProAssist dialog: no steps, no updates."""
    write_proassist(tmp_path, [proassist_clip()])
    return read_clips(tmp_path, ["cooking/prepared/train.jsonl"], "train", True)[0][0]


@both_tokenizers
def test_the_public_clip_reads_as_written_by_hand(public_clip, tokenizer):
    maker = make_maker(tokenizer)
    sample = whole_sample(maker, public_clip)
    assert decoded(maker, sample.input_ids) == PUBLIC_TEXT
    assert sample.frames.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert supervised_texts(maker, sample) == [
        ' [{"id": "S1", "transition": "start"}]<end_of_utterance>',
        " Take the chassis.<end_of_utterance>",
        ' [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}]<end_of_utterance>',
        " Now the wheels.<end_of_utterance>",
        ' [{"id": "S2", "transition": "complete"}]<end_of_utterance>',
    ]
    of_dst = [bool(sample.is_dst[sample.turn == number].all()) for number in range(5)]
    assert of_dst == [True, False, True, False, True]
    assert not sample.is_dst[sample.turn == -1].any()
    assert sample.decision_frames.tolist() == [4, 5, 5, 6, 7, 8, 9, 10, 11]
    assert sample.decision_is_frame.tolist() == [True, True, False, True, True, True, True, True, True]
    assert sample.decisions["dst_update"].tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 1]
    assert sample.decisions["speaking"].tolist() == [0, IGNORE, 1, 0, 0, 0, 1, 0, 0]


@both_tokenizers
def test_a_dialog_without_steps_reads_as_written_by_hand_and_has_no_dst_labels(dialog, tokenizer):
    maker = make_maker(tokenizer)
    sample = whole_sample(maker, dialog)
    assert decoded(maker, sample.input_ids).startswith(DIALOG_TEXT)
    assert supervised_texts(maker, sample)[:2] == [" Chop.<end_of_utterance>", " Stir.<end_of_utterance>"]
    assert set(sample.decisions["dst_update"].tolist()) == {IGNORE}
    assert not sample.is_dst.any()
    assert sample.decisions["speaking"].tolist()[:3] == [0, IGNORE, 1]
    lm, dst_gen, *heads = counts_of(sample)
    assert lm > 0 and dst_gen == 0
    assert heads[:2] == [0, 0] and heads[2] == 2


def test_a_clip_that_declares_no_steps_has_no_dst_labels_in_either_format():
    clip = make_clip(reply(3), steps=(), has_dst=True)
    sample = whole_sample(make_maker(), clip)
    assert set(sample.decisions["dst_update"].tolist()) == {IGNORE}
    assert sample.decisions["speaking"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


@both_tokenizers
@pytest.mark.parametrize("tokens_per_frame", [1, 4])
def test_ids_are_those_of_the_whole_text_tokenized_at_once(public_clip, dialog, tokenizer, tokens_per_frame):
    maker = make_maker(tokenizer, tokens_per_frame)
    blanks, symbols, quote = " Two  blanks\n\nand lines ", "naïve ☕ 𝄞 你好?", "'s 1234!"
    odd = make_clip(system(1, blanks), user(2, symbols), reply(2, "\n- S1: no\n"), user(3, quote))
    for clip in (public_clip, dialog, odd):
        sample = whole_sample(maker, clip)
        text = decoded(maker, sample.input_ids)
        assert maker.writer.tokenizer(text, add_special_tokens=False)["input_ids"] == sample.input_ids.tolist()
        assert (sample.input_ids == maker.writer.image_id).sum() == len(sample.frames) * tokens_per_frame
        assert len(sample.labels) == len(sample.is_dst) == len(sample.turn) == len(sample.input_ids)


def test_decisions_are_at_the_last_token_of_a_frame_and_of_a_user_turn(public_clip):
    maker = make_maker(tokens_per_frame=4)
    sample = whole_sample(maker, public_clip)
    text = [decoded(maker, sample.input_ids[: position + 1]) for position in sample.decision_positions]
    for number, (read, is_frame) in enumerate(zip(text, sample.decision_is_frame, strict=True)):
        assert read.endswith("<image>" * 4 if is_frame else "User: I want to assemble a toy.<end_of_utterance>\n")
        assert read.count("<image>") == 4 * (sample.decision_is_frame[: number + 1].sum())
