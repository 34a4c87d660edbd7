"""A clip's text as token ids, whatever the text holds."""

import json
import os
import pickle
import subprocess
import sys
from collections import Counter

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from dst_dist.data.clips import Step
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import ConfigError
from tests.data.dialogs import (
    TOKENIZERS,
    decoded,
    demo_tokenizer,
    make_clip,
    make_maker,
    reply,
    smol_tokenizer,
    supervised_texts,
    system,
    update,
    user,
    whole_sample,
)
from tests.launching import REPOSITORY

both_tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS)
SPELLED = "<image> <end_of_utterance> <|im_start|><|im_end|> <row_1_col_1> <fake_token_around_image><global-img>"


@both_tokenizers
def test_text_that_spells_special_tokens_stays_text(tokenizer):
    maker = make_maker(tokenizer)
    writer = maker.writer
    clip = make_clip(
        user(2, SPELLED),
        system(3, SPELLED),
        reply(4, SPELLED),
        update(5),
        end=6,
        prompt=SPELLED,
        goal=SPELLED,
        steps=(Step("S1", SPELLED),),
    )
    sample = whole_sample(maker, clip)
    assert decoded(maker, sample.input_ids).count(SPELLED) == 6
    added = set(writer.tokenizer.get_added_vocab().values())
    found = Counter(token for token in sample.input_ids.tolist() if token in added)
    assert found == {writer.start_id: 1, writer.image_id: 6, writer.end_id: 5}
    assert supervised_texts(maker, sample)[0] == f" {SPELLED}<end_of_utterance>"


@both_tokenizers
def test_a_turn_in_its_three_parts(tokenizer):
    writer = TokenWriter(TOKENIZERS[tokenizer](), 1)
    turn = writer.turn("DST_UPDATE", "[]")
    read = [writer.tokenizer.decode(ids) for ids in (turn.header, turn.body, turn.end)]
    assert read == ["DST:", " []<end_of_utterance>", "\n"]
    assert len(turn) == len(turn.header) + len(turn.body) + 1
    assert turn.body[-1] == writer.tokenizer.eos_token_id


def test_the_opening_says_what_there_is():
    writer = TokenWriter(demo_tokenizer(), 1)

    def text(state=None, **changes):
        return writer.tokenizer.decode(writer.header(make_clip(**changes), state or {}))

    assert text(steps=(), goal="") == "<|im_start|>System: You watch and help.<end_of_utterance>\n"
    assert text({"S2": "paused", "S1": "completed"}, goal="") == (
        "<|im_start|>System: You watch and help.\nSteps:\n- S1: Boil water\n- S2: Pour water\n"
        "State: S1 completed, S2 paused<end_of_utterance>\n"
    )
    assert text({"S1": "not_started"}).endswith("\nState: none<end_of_utterance>\n")


@pytest.mark.parametrize("token", ["<image>", "<|im_start|>", "<end_of_utterance>"])
def test_a_tokenizer_without_a_special_token_is_refused(token):
    backend = demo_tokenizer().backend_tokenizer.to_str().replace(token, "<other>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(backend), pad_token="<|im_end|>")
    with pytest.raises(ConfigError, match=f"lacks {token.replace('|', '.')};"):
        TokenWriter(tokenizer, 1)


def test_a_tokenizer_without_padding_is_refused():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=smol_tokenizer().backend_tokenizer)
    with pytest.raises(ConfigError, match="lacks a padding token;"):
        TokenWriter(tokenizer, 1)


def test_a_tokenizer_that_builds_a_special_token_of_letters_is_refused():
    """Merges like these come from training a tokenizer on texts with special tokens in them."""
    content = json.loads(demo_tokenizer().backend_tokenizer.to_str())
    content["model"]["merges"] = [["i", "m"], ["im", "a"], ["ima", "g"], ["imag", "e"], ["<", "image"], ["<image", ">"]]
    vocabulary = content["model"]["vocab"]
    for left, right in content["model"]["merges"]:
        vocabulary.setdefault(left + right, max(vocabulary.values()) + 1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), pad_token="<|im_end|>"
    )
    with pytest.raises(ConfigError, match="makes a special token of the plain text <image>,"):
        TokenWriter(tokenizer, 1)


def test_a_writer_can_be_sent_to_another_process():
    writer = TokenWriter(smol_tokenizer(), 4)
    copy = pickle.loads(pickle.dumps(writer))
    assert copy.turn("user", SPELLED) == writer.turn("user", SPELLED)


NUM_THREADS = """
import os, sys
from transformers import PreTrainedTokenizerFast
from dst_dist.data.token_writer import TokenWriter
before = os.listdir("/proc/self/task")
TokenWriter(PreTrainedTokenizerFast.from_pretrained(sys.argv[1]), 1).turn("user", "Where is it?")
print(len(os.listdir("/proc/self/task")) - len(before))
"""


@pytest.mark.parametrize("words", [{}, {"TOKENIZERS_PARALLELISM": "true"}], ids=["unset", "true"])
def test_no_thread_is_started_which_forks_would_lack(words, tmp_path):
    demo_tokenizer().save_pretrained(tmp_path)
    inherited = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    program = [sys.executable, "-c", NUM_THREADS, str(tmp_path)]
    done = subprocess.run(program, env=inherited | words, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
