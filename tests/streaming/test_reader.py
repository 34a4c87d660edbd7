"""Feeds of several streams read together give what each gives alone."""

import pytest
import torch

from dst_dist.streaming.reader import TOGETHER, Batch, Feed


def feeds_of(tokenizer, texts, wants_token):
    return [Feed(tokenizer(text)["input_ids"], [], wants_token, is_fresh=True) for text in texts]


def test_each_feed_gets_the_answer_it_needs(world):
    """The next token of one row, probabilities of the other, against the model without a cache."""
    data, model = world
    ids = [data.maker.writer.tokenizer(text)["input_ids"] for text in ("Pour it", "Now boil the water")]
    token, probabilities = Batch(model, 2).read([Feed(ids[0], [], True, True), Feed(ids[1], [], False, True)])
    with torch.no_grad():
        no_frames = torch.empty(0, 3, 48, 48, dtype=torch.uint8)
        last = [model.hidden_states(torch.tensor(row), no_frames, [len(row)])[-1:] for row in ids]
        assert token == int(model.next_tokens(last[0]))
        assert probabilities == pytest.approx(model.decide(last[1])[0].tolist(), abs=1e-5)


def test_a_long_feed_is_read_alone_and_answers_keep_the_order_of_feeds(world, monkeypatch):
    data, model = world
    tokenizer = data.maker.writer.tokenizer
    feeds = feeds_of(tokenizer, ("One", "Two words " * 10, "Three"), wants_token=False)
    assert len(feeds[0].ids) <= TOGETHER < len(feeds[1].ids)
    rows, read = [], Batch._last_states
    monkeypatch.setattr(Batch, "_last_states", lambda self, feeds, some: rows.append(some) or read(self, feeds, some))
    together = Batch(model, 3).read(feeds)
    assert rows == [[0, 2], [1]]
    for feed, answer in zip(feeds, together, strict=True):
        (alone,) = Batch(model, 1).read([feed])
        assert answer == pytest.approx(alone, abs=1e-5)


def test_a_fresh_feed_forgets_the_row_and_others_continue_it(world):
    data, model = world
    (first, second) = feeds_of(data.maker.writer.tokenizer, ("One two", "three"), wants_token=False)
    batch = Batch(model, 1)
    batch.read([first])
    (continued,) = batch.read([second._replace(is_fresh=False)])
    (whole,) = Batch(model, 1).read([first._replace(ids=first.ids + second.ids)])
    assert continued == pytest.approx(whole, abs=1e-5)
    (alone,) = batch.read([second])
    assert alone == pytest.approx(Batch(model, 1).read([second])[0], abs=1e-5) != pytest.approx(continued, abs=1e-5)
