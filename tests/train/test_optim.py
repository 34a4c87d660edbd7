"""Learning rates by hand, and which parameters decay."""

import pytest
import torch
from torch.nn import Parameter

from dst_dist import config
from dst_dist.train.optim import build_optimizer, rate_factor, set_rates


def optim(**changes):
    return config.Optim(**{"warmup_steps": 4, "schedule": "linear", **changes})


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Four steps up, then four steps down: 1 - 0/4, 1 - 1/4, ...
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        # (1 + cos(pi * 0)) / 2, (1 + cos(pi / 4)) / 2 = 0.853553, ...
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.853553, 0.5, 0.146447]),
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
    ],
)
def test_rates_by_hand(schedule, expected):
    assert [rate_factor(step, 8, optim(schedule=schedule)) for step in range(8)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Four steps up, four at the peak, then four steps down.
        ("linear", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.853553, 0.5, 0.146447]),
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_the_rate_stays_at_its_peak_until_the_decay(schedule, expected):
    halfway = optim(schedule=schedule, decay_share=0.5)
    assert [rate_factor(step, 12, halfway) for step in range(12)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_no_warm_up_and_a_warm_up_that_never_ends(schedule):
    assert rate_factor(0, 1, optim(schedule=schedule, warmup_steps=0)) == 1
    rising = [rate_factor(step, 5, optim(schedule=schedule, warmup_steps=10)) for step in range(5)]
    assert rising == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_never_rises_after_the_warm_up_and_every_step_moves(schedule):
    rates = [rate_factor(step, 100, optim(schedule=schedule)) for step in range(4, 100)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def groups():
    def named(*shapes):
        return [(str(index), Parameter(torch.ones(shape))) for index, shape in enumerate(shapes)]

    return {"text": named((2, 2), (2,)), "connector": named((3, 2)), "vision": [], "heads": named((2, 2), (2,))}


def test_every_part_has_its_rate_and_norms_and_biases_do_not_decay():
    made = build_optimizer(
        groups(), optim(learning_rate=0.1, head_learning_rate=0.5, connector_learning_rate=0, weight_decay=0.2), False
    )
    shown = [
        (group["lr"], group["weight_decay"], [tuple(p.shape) for p in group["params"]]) for group in made.param_groups
    ]
    assert shown == [
        (0.1, 0.2, [(2, 2)]),
        (0.1, 0.0, [(2,)]),
        (0.0, 0.2, [(3, 2)]),
        (0.5, 0.2, [(2, 2)]),
        (0.5, 0.0, [(2,)]),
    ]


def test_a_rate_that_is_not_given_is_the_texts():
    made = build_optimizer(groups(), optim(learning_rate=0.1), False)
    assert {group["lr"] for group in made.param_groups} == {0.1}
    assert made.param_groups[0]["betas"] == (0.9, 0.999)


def test_rates_are_shares_of_each_groups_peak():
    made = build_optimizer(groups(), optim(learning_rate=0.1, head_learning_rate=0.5), False)
    for factor in (0.5, 0.25):
        set_rates(made.param_groups, factor)
        assert [group["lr"] for group in made.param_groups] == pytest.approx([0.1 * factor] * 3 + [0.5 * factor] * 2)
