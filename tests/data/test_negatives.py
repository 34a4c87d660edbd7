"""The negatives that count: a share, each as likely, their number known without the sample, equal in all processes."""

import numpy as np
import pytest

from dst_dist.data.batching import Draw
from dst_dist.data.conversation import IGNORE
from dst_dist.data.negatives import Negatives
from dst_dist.heads import HEAD_NAMES

FIRST = Draw(0, 0)
LABELS = np.array([1, 0, 0, IGNORE, 1, 0, 0, 0, 0, 0, 0, 0, 0])


def negatives_of(labels, rate, seed=0, weights=(1,)):
    """Return the negatives of samples that all have these labels for each head."""
    available = {head: np.full(len(weights), np.sum(labels == 0)) for head in HEAD_NAMES}
    return Negatives(rate, seed, np.array(weights), available)


def kept(labels, rate, epoch=0, seed=0, draw=FIRST, weights=(1,)):
    return negatives_of(labels, rate, seed, weights).keep(dict.fromkeys(HEAD_NAMES, labels), draw, epoch)


def test_all_positives_and_the_share_of_negatives_stay():
    before = LABELS.copy()
    for epoch in range(20):
        for labels in kept(LABELS, 0.3, epoch).values():
            assert np.array_equal(labels == 1, LABELS == 1)
            assert np.sum(labels == 0) == 3
            assert np.all(LABELS[labels == 0] == 0)
    assert np.array_equal(LABELS, before)


@pytest.mark.parametrize(("rate", "number"), [(0.0, 0), (1.0, 10)])
def test_none_or_all(rate, number):
    assert all(np.sum(labels == 0) == number for labels in kept(LABELS, rate).values())


def test_the_share_holds_on_average_also_on_short_samples():
    labels = np.array([0, 0, 0, 1])
    numbers = [np.sum(kept(labels, 0.1, epoch)["speaking"] == 0) for epoch in range(2000)]
    assert set(numbers) == {0, 1}
    assert np.mean(numbers) == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("head", HEAD_NAMES)
def test_every_negative_is_as_likely(head):
    labels = np.zeros(10, dtype=np.int64)
    times = sum(kept(labels, 0.2, epoch)[head] == 0 for epoch in range(2000))
    assert times.sum() == 4000
    assert np.all(np.abs(times - 400) < 90)


def test_the_number_is_known_without_the_sample():
    """The number of each draw is rounded as its labels are."""
    weights = (1, 3, 2)
    draws = [Draw(sample, repeat) for sample, weight in enumerate(weights) for repeat in range(weight)]
    for epoch in range(20):
        numbers = negatives_of(LABELS, 0.25, weights=weights).num_kept(draws, epoch)
        for place, draw in enumerate(draws):
            for head, labels in kept(LABELS, 0.25, epoch, draw=draw, weights=weights).items():
                assert np.sum(labels == 0) == numbers[head][place]


def test_seed_epoch_sample_repeat_and_head_decide():
    first = kept(LABELS, 0.5, weights=(2, 2))
    again = kept(LABELS, 0.5, weights=(2, 2))
    assert all(np.array_equal(first[head], again[head]) for head in HEAD_NAMES)
    assert not np.array_equal(*first.values())
    others = {
        "seed": kept(LABELS, 0.5, seed=1, weights=(2, 2)),
        "epoch": kept(LABELS, 0.5, epoch=1, weights=(2, 2)),
        "sample": kept(LABELS, 0.5, draw=Draw(1, 0), weights=(2, 2)),
        "repeat": kept(LABELS, 0.5, draw=Draw(0, 1), weights=(2, 2)),
    }
    for what, other in others.items():
        assert not np.array_equal(first["speaking"], other["speaking"]), what
