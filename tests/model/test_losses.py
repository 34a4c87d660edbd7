"""The loss terms by hand, and that shares of micro-batches sum to the mean over the global batch."""

import math
from types import SimpleNamespace

import pytest
import torch

from dst_dist.config import Loss
from dst_dist.data.samples import COUNT_NAMES
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.losses import Positions, compute_loss, decision
from dst_dist.model.smolvlm_dst import DSTOutput
from tests.model.tiny import count_terms

LN3 = math.log(3)
LIKELY = -math.log(0.75)  # 0.287682, the loss of a label that got probability 3/4
UNLIKELY = -math.log(0.25)  # 1.386294, of one that got 1/4


def leaning_positive(rows):
    """Logits that give probability 3/4 to label 1, with a graph."""
    return torch.tensor([[0.0, LN3]] * rows).reshape(rows, 2).requires_grad_()


def head_loss(labels, balance, positives=None, negatives=None, logits=None):
    """Return a head's loss under logits that lean to label 1, if no others are given."""
    labels = torch.tensor(labels, dtype=torch.long)
    logits = leaning_positive(len(labels)) if logits is None else logits
    counts = {
        "speaking_positives": int((labels == 1).sum()) if positives is None else positives,
        "speaking_negatives": int((labels == 0).sum()) if negatives is None else negatives,
    }
    return decision("speaking", Positions(None, None, {"speaking": logits}, {"speaking": labels}), counts, balance)


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        ("classes", 0.836988),  # (0.287682 + 1.386294) / 2
        ("none", 0.653886),  # (2 * 0.287682 + 1.386294) / 3
        ("focal", 0.271917),  # (2 * 0.0625 * 0.287682 + 0.5625 * 1.386294) / 3
    ],
)
def test_loss_of_two_positives_and_a_negative(balance, expected):
    assert head_loss([1, -100, 1, 0], balance).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "expected"), [([1, 1], LIKELY / 2), ([0, -100], UNLIKELY / 2), ([-100], 0.0), ([], 0.0)]
)
def test_an_absent_class_adds_zero_and_nothing_is_rescaled(labels, expected):
    assert head_loss(labels, "classes").item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("balance", ["classes", "none", "focal"])
def test_without_a_counted_position_the_loss_is_zero_with_a_graph(balance):
    logits = leaning_positive(2)
    loss = head_loss([-100, -100], balance, logits=logits)
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros(2, 2))


def test_counts_are_the_global_ones():
    # 1 of 4 positives and 2 of 5 negatives are here.
    expected = (LIKELY / 4 + 2 * UNLIKELY / 5) / 2
    assert head_loss([1, 0, 0], "classes", 4, 5).item() == pytest.approx(expected, abs=1e-6)
    expected = (LIKELY + 2 * UNLIKELY) / 9
    assert head_loss([1, 0, 0], "none", 4, 5).item() == pytest.approx(expected, abs=1e-6)


def test_focal_is_exact_where_the_model_is_almost_sure():
    logits = torch.tensor([[0.0, 16.0]], requires_grad=True)
    loss = head_loss([1], "focal", logits=logits)
    assert loss.item() == pytest.approx(math.exp(-16) ** 3, rel=1e-2)
    loss.backward()
    assert logits.grad.isfinite().all()


def batch_of(targets, is_dst, dst_update, speaking):
    return SimpleNamespace(
        lm_targets=torch.tensor(targets, dtype=torch.long),
        lm_is_dst=torch.tensor(is_dst, dtype=torch.bool),
        decisions={
            "dst_update": torch.tensor(dst_update, dtype=torch.long),
            "speaking": torch.tensor(speaking, dtype=torch.long),
        },
    )


def output_for(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(len(batch.lm_targets), 7), *((len(labels), 2) for labels in batch.decisions.values())]
    lm, *heads = (torch.randn(size, generator=generator).requires_grad_() for size in sizes)
    return DSTOutput(lm, dict(zip(HEAD_NAMES, heads, strict=True)), anchor=torch.zeros((), requires_grad=True))


def test_language_terms_are_token_means_and_dst_tokens_count_in_both():
    # Probability 1/2 for target 1 and 1/4 for target 0, under logits ln(1, 2, 1).
    logits = torch.log(torch.tensor([[1.0, 2.0, 1.0]])).repeat(3, 1)
    batch = batch_of([1, 0, 1], [False, True, False], [], [])
    output = DSTOutput(logits, dict.fromkeys(HEAD_NAMES, torch.zeros(0, 2)), torch.zeros(()))
    total, terms = compute_loss(output, batch, count_terms(batch), Loss(dst_gen=10.0), "classes")
    assert terms["lm"].item() == pytest.approx((math.log(2) + math.log(4) + math.log(2)) / 3)
    assert terms["dst_gen"].item() == pytest.approx(math.log(4))
    assert total.item() == pytest.approx(4 / 3 * math.log(2) + 10 * math.log(4))


def test_total_is_the_weighted_sum_of_unweighted_terms():
    batch = batch_of([1, 2], [True, False], [1, 0], [0, 1])
    weights = Loss(lm=0.5, dst_gen=2.0, dst_update=3.0, speaking=0.0)
    total, terms = compute_loss(output_for(batch), batch, count_terms(batch), weights, "none")
    expected = 0.5 * terms["lm"] + 2 * terms["dst_gen"] + 3 * terms["dst_update"]
    assert total.item() == pytest.approx(expected.item())
    assert terms["speaking"] > 0 and not any(term.requires_grad for term in terms.values())


@pytest.mark.parametrize("balance", ["classes", "none", "focal"])
def test_shares_of_micro_batches_sum_to_the_whole(balance):
    whole = batch_of([1, 2, 3, 4, 5], [True, True, False, False, True], [1, 0, 0, 0, -100], [0, 0, 1, -100, 0])
    output, counts = output_for(whole), count_terms(whole)
    expected, expected_terms = compute_loss(output, whole, counts, Loss(), balance)
    # The second share is empty, the third has no positive of dst_update.
    total, terms = 0.0, dict.fromkeys(expected_terms, 0.0)
    for part in (slice(0, 2), slice(2, 2), slice(2, 5)):
        batch = SimpleNamespace(
            lm_targets=whole.lm_targets[part],
            lm_is_dst=whole.lm_is_dst[part],
            decisions={head: labels[part] for head, labels in whole.decisions.items()},
        )
        logits = {head: values[part] for head, values in output.decision_logits.items()}
        share, share_terms = compute_loss(
            DSTOutput(output.lm_logits[part], logits, output.anchor), batch, counts, Loss(), balance
        )
        total += share
        terms = {name: terms[name] + share_terms[name] for name in terms}
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(terms, expected_terms)


def test_an_empty_micro_batch_is_zero_and_reaches_the_anchor():
    batch = batch_of([], [], [], [])
    output = output_for(batch)
    total, _ = compute_loss(output, batch, dict.fromkeys(COUNT_NAMES, 5), Loss(), "classes")
    total.backward()
    assert total.item() == 0 and output.anchor.grad is not None


def test_losses_are_float32_whatever_the_logits():
    batch = batch_of([1, 2], [True, False], [1, 0], [0, 1])
    output = output_for(batch)._replace(lm_logits=torch.randn(2, 7).bfloat16())
    total, terms = compute_loss(output, batch, count_terms(batch), Loss(), "classes")
    assert total.dtype == terms["lm"].dtype == torch.float32
