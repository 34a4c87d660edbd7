"""Pieces put together are the sample that training reads."""

import numpy as np
import pytest

from dst_dist.data.batching import Draw
from dst_dist.data.conversation import IGNORE
from dst_dist.heads import HEAD_NAMES
from dst_dist.inspection.pieces import UNDRAWN, pieces_of
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup


@pytest.fixture(scope="module")
def data(words):
    setup = DataSetup(load_recipe([*words, "data.max_seq_len=125", "data.context_seconds=2"]), ("train",))
    return setup.datasets(setup.check())["train"]


@pytest.mark.parametrize("epoch", [0, 1])
def test_pieces_have_every_token_label_and_decision_of_their_sample(data, epoch):
    assert len(data) > len(data.clips.index)
    for number in range(len(data)):
        sample, pieces = data.sample(Draw(number, 0), epoch), pieces_of(data, number, epoch)
        assert sum(piece.num_tokens for piece in pieces) == len(sample.input_ids)
        assert [piece.frame for piece in pieces if piece.frame is not None] == sample.frames.tolist()
        trained = {kind: sum(p.num_tokens for p in pieces if p.trained == kind) for kind in ("lm", "dst_gen")}
        assert trained["dst_gen"] == int(sample.is_dst.sum())
        assert sum(trained.values()) == int((sample.labels != IGNORE).sum())
        ends = np.cumsum([piece.num_tokens for piece in pieces]) - 1
        asked = [(int(end), piece.decisions) for end, piece in zip(ends, pieces, strict=True) if piece.decisions]
        assert [end for end, _ in asked] == sample.decision_positions.tolist()
        for head in HEAD_NAMES:
            shown = [IGNORE if marks[head] == UNDRAWN else marks[head] for _, marks in asked]
            assert shown == sample.decisions[head].tolist()


def test_negatives_that_are_not_drawn_are_shown_as_such(data):
    marks = [piece.decisions["speaking"] for n in range(len(data)) for piece in pieces_of(data, n) if piece.decisions]
    drawn, undrawn = marks.count(0), marks.count(UNDRAWN)
    assert drawn and undrawn and abs(drawn / (drawn + undrawn) - 0.4) < 0.1
    assert drawn + undrawn == int(data.samples["speaking_negatives"].sum())


def test_a_text_is_what_its_tokens_say(data):
    pieces = pieces_of(data, 0)
    assert pieces[0].text.startswith("<|im_start|>System: ") and pieces[0].trained == ""
    updates = [piece.text for piece in pieces if piece.trained == "dst_gen"]
    assert all(text.startswith(' [{"id": "S') and text.endswith("}]<end_of_utterance>") for text in updates)
