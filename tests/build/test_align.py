"""The alignment: by hand, and against trying everything."""

import itertools

import numpy as np
import pytest

from dst_dist.build.align import Costs, align, worth


def worth_by_hand(similarity: np.ndarray, chosen: tuple, costs: Costs) -> float:
    total, before = 0.0, -1
    for row, step in enumerate(chosen):
        if step is None:
            continue
        total += similarity[row, step] - costs.threshold
        total -= costs.back if step < before else costs.skip * min(costs.most_skips, max(0, step - before - 1))
        before = step
    return total


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    similarity, costs = rng.random((4, 3)), Costs(threshold=0.5, skip=0.1, most_skips=1, back=0.2)
    all_sums = {
        chosen: worth_by_hand(similarity, chosen, costs) for chosen in itertools.product([None, 0, 1, 2], repeat=4)
    }
    assert all_sums[tuple(align(similarity, costs))] == pytest.approx(max(all_sums.values()))
    assert all(worth(similarity, chosen, costs) == pytest.approx(total) for chosen, total in all_sums.items())


@pytest.mark.parametrize(
    ("similarity", "chosen"),
    [
        (np.zeros((0, 3)), []),
        (np.zeros((2, 0)), [None, None]),
        (np.zeros((2, 2)), [None, None]),
        (np.eye(3), [0, 1, 2]),
        (np.eye(3)[[2, 0, 1]], [2, 0, 1]),
        (np.eye(2)[[0, 1, 0]], [0, 1, 0]),
        # Two steps of one name: order tells them apart.
        (np.array([[0, 0.9, 0, 0.9], [0, 0, 0.9, 0], [0, 0.9, 0, 0.9]]), [1, 2, 3]),
        # A little nearer is not worth going back.
        (np.array([[0, 0.9, 0], [0.52, 0, 0.5]]), [1, 2]),
        (np.array([[0, 0.9, 0], [0.9, 0, 0.5]]), [1, 0]),
    ],
)
def test_by_hand(similarity, chosen):
    assert align(similarity, Costs()) == chosen
