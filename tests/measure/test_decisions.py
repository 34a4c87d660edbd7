"""Metrics of decisions, against values worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from dst_dist.measure.decisions import CURVE_POINTS, Decisions

IGNORE = -100


def decisions(labels, probabilities, is_frame=None, clip=None):
    """Return decisions that are by default all at frames of one clip."""
    number = len(labels)
    is_frame = np.ones(number, bool) if is_frame is None else is_frame
    return Decisions.read(labels, probabilities, is_frame, np.zeros(number, int) if clip is None else clip)


def array(*values):
    return np.array(values)


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        # At least 0.35: 2 of 3 right, both found, F1 0.8; at least 0.1: 2/3; 0.4: 1/2; 0.8: 2/3.
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.225),
        # All positives score above all negatives.
        ([1, 0, 1, 0], [0.9, 0.3, 0.7, 0.1], 0.5),
        # No score is below the best one: halfway to 0.
        ([1, 0], [0.4, 0.8], 0.2),
        # Equal scores are decided together.
        ([1, 0, 1], [0.6, 0.2, 0.6], 0.4),
        # At least 0.9: 1 of 1 right, 1 of 2 found, F1 2/3; at least 0.6: 2 of 4 right, 2 of 2 found, F1 2/3 too.
        ([1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.4], 0.5),
    ],
)
def test_best_threshold_by_hand(labels, probabilities, threshold):
    assert decisions(array(*labels), array(*probabilities)).best_threshold() == pytest.approx(threshold)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_is_better(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.random(40) < 0.2]).astype(int)
    # Few different scores, so that many are equal; some at the very ends, some next to one another.
    probabilities = rng.choice([0.0, 1e-300, 0.1, 0.1 + 2**-56, 0.5, 0.7, 1 - 2**-53, 1.0], len(labels))
    chosen = decisions(labels, probabilities).best_threshold()
    every = [f1_score(labels, probabilities > threshold, zero_division=0) for threshold in (-1, *probabilities)]
    if probabilities[labels == 1].min() > 0:
        assert f1_score(labels, probabilities > chosen) == pytest.approx(max(every))


def test_decisions_by_hand():
    labels = array(1, 0, IGNORE, 1, 0, 0)
    probabilities = array(0.9, 0.6, 0.99, 0.4, 0.2, 0.1)
    is_frame = array(True, True, True, False, True, True)
    measured = decisions(labels, probabilities, is_frame).metrics("speaking", np.ones(1), 0.5, minutes=0.5)
    assert measured == pytest.approx(
        {
            "num_speaking_positives": 2,
            "num_speaking_negatives": 3,
            # Above 0.5 are a positive and a negative: 1 of 2 right, 1 of 2 found.
            "speaking/precision": 0.5,
            "speaking/recall": 0.5,
            "speaking/f1": 0.5,
            "speaking/threshold": 0.5,
            "speaking/false_per_minute": 1 / 0.5,
            # In order of score: +, -, +: precision 1 at the first positive, 2/3 at the second.
            "speaking/average_precision": (1 + 2 / 3) / 2,
            "speaking/base_rate": 2 / 5,
            # Without the user turn's end there is one positive, and it comes first.
            "speaking/average_precision_at_frames": 1.0,
            "speaking/base_rate_at_frames": 1 / 4,
        }
    )


def test_a_probability_at_the_threshold_is_not_above_it():
    measured = decisions(array(1, 0), array(0.5, 0.5)).metrics("speaking", np.ones(1), 0.5)
    assert measured["speaking/recall"] == 0.0 and "speaking/precision" not in measured


@pytest.mark.parametrize("labels", [[IGNORE, IGNORE], [1, 1], [0, IGNORE], []])
def test_without_both_classes_no_threshold_is_chosen(labels):
    labels = np.array(labels, dtype=int)
    found = decisions(labels, np.full(len(labels), 0.5))
    assert found.best_threshold() is None and found.curve(1.0) is None
    measured = found.metrics("dst_update", np.ones(1), None, minutes=1.0)
    assert measured == {
        "num_dst_update_positives": float((labels == 1).sum()),
        "num_dst_update_negatives": float((labels == 0).sum()),
    }


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # The first two of four are above 0.5. Without positives they are two false alarms in half a minute.
        ([0, 0, 0, 0], {"precision": 0.0, "f1": 0.0, "false_per_minute": 4.0}),
        # Nothing is above 0.5, so there is no precision.
        ([IGNORE, IGNORE, 0, 0], {"false_per_minute": 0.0}),
        ([IGNORE, IGNORE, 1, 1], {"recall": 0.0, "f1": 0.0, "false_per_minute": 0.0}),
        ([1, 1, 1, 1], {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "false_per_minute": 0.0}),
    ],
)
def test_scores_that_do_not_apply_are_absent(labels, expected):
    labels = np.array(labels)
    measured = decisions(labels, array(0.9, 0.8, 0.2, 0.1)).metrics("speaking", np.ones(1), 0.5, minutes=0.5)
    counts = {"num_speaking_positives": (labels == 1).sum(), "num_speaking_negatives": (labels == 0).sum()}
    assert measured == {**counts, "speaking/threshold": 0.5} | {
        f"speaking/{name}": value for name, value in expected.items()
    }


def test_without_a_counted_position_there_is_nothing_to_measure():
    measured = decisions(array(IGNORE, IGNORE), array(0.9, 0.1)).metrics("speaking", np.ones(1), 0.5, minutes=0.5)
    assert measured == {"num_speaking_positives": 0, "num_speaking_negatives": 0}


def average_precision_by_definition(labels, scores):
    """Return the mean, over the positives, of the precision among all that score at least as high."""
    return np.mean([labels[scores >= score].mean() for score in scores[labels == 1]])


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_sklearns_and_average_precision_its_definition(seed):
    rng = np.random.default_rng(seed)
    labels, clip, weights = (
        rng.choice([1, 0, 0, 0, IGNORE], 300),
        rng.integers(0, 10, 300),
        rng.integers(0, 4, 10).astype(float),
    )
    probabilities = rng.random(300).round(2)
    found, counted = decisions(labels, probabilities, clip=clip), labels != IGNORE
    unweighted = found.metrics("dst_update", np.ones(10), 0.5)
    by_definition = average_precision_by_definition(labels[counted], probabilities[counted])
    assert unweighted["dst_update/average_precision"] == pytest.approx(by_definition, abs=1e-12)
    measured = found.metrics("dst_update", weights, 0.6)
    weighting = {"sample_weight": weights[clip][counted]}
    expected = average_precision_score(labels[counted], probabilities[counted], **weighting)
    assert measured["dst_update/average_precision"] == pytest.approx(expected, abs=1e-12)
    scores = precision_recall_fscore_support(
        labels[counted], probabilities[counted] > 0.6, average="binary", zero_division=0.0, **weighting
    )
    assert [measured[f"dst_update/{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(scores[:3])


def test_a_curve_by_hand():
    curve = decisions(array(1, 0, 1, 0), array(0.9, 0.3, 0.7, 0.1)).curve(minutes=2.0)
    assert curve["threshold"][0] == 0.0 and curve["threshold"] == sorted(curve["threshold"])
    assert len(curve["threshold"]) <= CURVE_POINTS and {0.1, 0.3, 0.7, 0.9} < set(curve["threshold"])
    at = curve["threshold"].index
    # Above 0: all four; above 0.1: one false of three; above 0.3: both and no other; above 0.9: none.
    assert (curve["precision"][0], curve["recall"][0], curve["false_per_minute"][0]) == (0.5, 1.0, 1.0)
    assert (curve["precision"][at(0.1)], curve["false_per_minute"][at(0.1)]) == (pytest.approx(2 / 3), 0.5)
    assert (curve["f1"][at(0.3)], curve["false_per_minute"][at(0.3)]) == (1.0, 0.0)
    assert (curve["precision"][at(0.9)], curve["recall"][at(0.9)], curve["f1"][at(0.9)]) == (None, 0.0, 0.0)
