"""Confidence intervals over videos and groups of clips."""

from dataclasses import replace

import numpy as np
import pytest

from dst_dist.measure.decisions import Decisions
from dst_dist.measure.intervals import measured
from tests.data.dialogs import make_clip


def clips_of(*videos, dataset="kitchen", domain=None):
    return [replace(make_clip(end=10), video=video, dataset=dataset, domain=domain) for video in videos]


def share_measure(hits):
    """Return a measure of the share of clips that are right."""
    hits = np.array(hits, dtype=float)
    return lambda weights: (
        {"right": float(weights @ hits / weights.sum()), "num_right": float(weights @ hits)} if weights.sum() else {}
    )


def test_the_interval_is_that_of_a_proportion():
    """100 videos, 80 right: the normal approximation gives 0.8 +- 1.96 * sqrt(0.8 * 0.2 / 100)."""
    found = measured(share_measure([1] * 80 + [0] * 20), clips_of(*map(str, range(100))))
    assert found["right"] == 0.8 and found["num_videos"] == 100
    assert found["right/ci95"] == pytest.approx([0.8 - 0.0784, 0.8 + 0.0784], abs=0.02)
    assert "num_right/ci95" not in found


def test_clips_of_one_video_are_drawn_together():
    """Ten clips of each of ten videos, alike within a video: as wide as ten videos are, not as a hundred."""
    videos = [str(number // 10) for number in range(100)]
    low, high = measured(share_measure([1] * 80 + [0] * 20), clips_of(*videos))["right/ci95"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 10), abs=0.12) and high - low > 0.3


def test_one_video_has_no_interval():
    assert measured(share_measure([1, 0]), clips_of("a", "a"))["right"] == 0.5
    assert "right/ci95" not in measured(share_measure([1, 0]), clips_of("a", "a"))


def test_groups_are_the_measure_of_their_clips_alone():
    clips = clips_of("a", "b", domain="cooking") + clips_of("c", "d", "e", dataset="garage")
    found = measured(share_measure([1, 0, 1, 1, 1]), clips)
    assert found["right"] == 0.8
    assert {name: group["right"] for name, group in found["by_dataset"].items()} == {"kitchen": 0.5, "garage": 1.0}
    assert {name: group["num_videos"] for name, group in found["by_dataset"].items()} == {"kitchen": 2, "garage": 3}
    # Clips without a domain are in no domain.
    assert {name: group["right"] for name, group in found["by_domain"].items()} == {"cooking": 0.5}
    alone = measured(share_measure([1, 0]), clips[:2])
    assert found["by_dataset"]["kitchen"]["right/ci95"] == alone["right/ci95"]


def test_bootstrap_samples_without_positives_count():
    """Two videos of a minute: one false alarm next to a positive, and three without; so 1, 2 or 3 a minute."""
    labels, clip = np.array([1, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 1])
    decided = Decisions.read(labels, np.full(5, 0.9), np.ones(5, bool), clip)
    found = measured(lambda weights: decided.metrics("speaking", weights, 0.5, weights.sum()), clips_of("a", "b"))
    assert (found["speaking/false_per_minute"], found["speaking/false_per_minute/ci95"]) == (2, [1, 3])
    assert found["speaking/recall/ci95"] == [1, 1]


def test_it_is_the_same_every_time():
    clips = clips_of(*map(str, range(20)))
    assert measured(share_measure([1, 0] * 10), clips) == measured(share_measure([1, 0] * 10), clips)
