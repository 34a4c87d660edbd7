"""Average precision under weights, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dst_dist.measure.ranking import Ranking


def test_by_hand():
    """+, -, + from the highest score on: precision 1 at the first positive, 2/3 at the second."""
    ranking = Ranking(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.6, 0.4, 0.1]), np.arange(4))
    assert ranking.average_precision(np.ones(4)) == pytest.approx((1 + 2 / 3) / 2)
    # Without the second positive the first alone counts; drawn twice, the second has a precision of 3/4 twice.
    assert ranking.average_precision(np.array([1.0, 1, 0, 1])) == 1.0
    assert ranking.average_precision(np.array([1.0, 1, 2, 0])) == pytest.approx((1 + 2 * 3 / 4) / 3)


@pytest.mark.parametrize("seed", range(30))
def test_it_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    # Few different scores, so that many are equal; 0 and 1 are among them.
    scores = -np.sort(-rng.choice([0.0, 0.25, 0.5, 1.0] if seed % 2 else rng.random(40), 60))
    positive, clip = (rng.random(60) < (0.1, 0.5, 0.9)[seed % 3]).astype(float), rng.integers(0, 8, 60)
    positive[rng.integers(60)] = 1
    ranking = Ranking(positive, scores, clip)
    for _ in range(5):
        weights = rng.multinomial(8, np.full(8, 1 / 8)).astype(float)
        if weights[clip] @ positive:
            expected = average_precision_score(positive, scores, sample_weight=weights[clip])
            assert ranking.average_precision(weights) == pytest.approx(expected, rel=1e-12)


def test_without_positives_nothing_is_prepared():
    Ranking(np.zeros(3), np.array([0.9, 0.5, 0.1]), np.arange(3))
    Ranking(np.zeros(0), np.zeros(0), np.zeros(0, int))
