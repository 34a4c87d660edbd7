"""Confidence intervals over videos and groups of clips."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dst_dist.heads import HEAD_NAMES
from dst_dist.measure.decisions import Decisions
from dst_dist.measure.events import Tallies, tally
from dst_dist.measure.intervals import NUM_RESAMPLES, measured
from dst_dist.measure.teacher_forced import TeacherForced
from dst_dist.measure.timeline import Timeline
from tests.data.dialogs import make_clip


def clips_of(*videos, dataset="kitchen", domain=None):
    return [replace(make_clip(end=10), video=video, dataset=dataset, domain=domain) for video in videos]


class Share:
    """A measure of the share of clips that are right; `asked` has the number of clips of each measurement."""

    def __init__(self, hits, asked=None):
        self.hits, self.asked = np.array(hits, dtype=float), [] if asked is None else asked

    def of_clips(self, members):
        return Share(self.hits[members], self.asked)

    def __call__(self, weights):
        self.asked.append(len(weights))
        assert len(weights) == len(self.hits)
        right = float(weights @ self.hits)
        return {"right": right / float(weights.sum()), "num_right": right}


def test_the_interval_is_that_of_a_proportion():
    """100 videos, 80 right: the normal approximation gives 0.8 +- 1.96 * sqrt(0.8 * 0.2 / 100)."""
    found = measured(Share([1] * 80 + [0] * 20), clips_of(*map(str, range(100))))
    assert found["right"] == 0.8 and found["num_videos"] == 100
    assert found["right/ci95"] == pytest.approx([0.8 - 0.0784, 0.8 + 0.0784], abs=0.02)
    assert "num_right/ci95" not in found


def test_clips_of_one_video_are_drawn_together():
    """Ten clips of each of ten videos, alike within a video: as wide as ten videos are, not as a hundred."""
    videos = [str(number // 10) for number in range(100)]
    low, high = measured(Share([1] * 80 + [0] * 20), clips_of(*videos))["right/ci95"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 10), abs=0.12) and high - low > 0.3


def test_one_video_has_no_interval():
    assert measured(Share([1, 0]), clips_of("a", "a"))["right"] == 0.5
    assert "right/ci95" not in measured(Share([1, 0]), clips_of("a", "a"))


def test_groups_are_the_measure_of_their_clips_alone():
    clips = clips_of("a", "b", domain="cooking") + clips_of("c", "d", "e", dataset="garage")
    found = measured(Share([1, 0, 1, 1, 1]), clips)
    assert found["right"] == 0.8
    assert {name: group["right"] for name, group in found["by_dataset"].items()} == {"kitchen": 0.5, "garage": 1.0}
    assert {name: group["num_videos"] for name, group in found["by_dataset"].items()} == {"kitchen": 2, "garage": 3}
    # Clips without a domain are in no domain.
    assert {name: group["right"] for name, group in found["by_domain"].items()} == {"cooking": 0.5}
    alone = measured(Share([1, 0]), clips[:2])
    assert set(alone) - {"by_dataset", "by_domain"} == set(found["by_dataset"]["kitchen"])
    assert found["by_dataset"]["kitchen"]["right/ci95"] == alone["right/ci95"]


def test_bootstrap_samples_without_positives_count():
    """Two videos of a minute: one false alarm next to a positive, and three without; so 1, 2 or 3 a minute."""
    labels, clip = np.array([1, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 1])
    decided = Decisions.read(labels, np.full(5, 0.9), np.ones(5, bool), clip)

    def measure(weights):
        return decided.metrics("speaking", weights, 0.5, weights.sum())

    found = measured(measure, clips_of("a", "b"))
    assert (found["speaking/false_per_minute"], found["speaking/false_per_minute/ci95"]) == (2, [1, 3])
    assert found["speaking/recall/ci95"] == [1, 1]


def test_it_is_the_same_every_time():
    clips = clips_of(*map(str, range(20)))
    assert measured(Share([1, 0] * 10), clips) == measured(Share([1, 0] * 10), clips)


def test_a_group_is_measured_over_its_own_clips_alone():
    measure = Share([1, 0, 1, 1, 0, 1])
    clips = clips_of("a", "b", domain="one") + clips_of("c", "d", "e", "f", dataset="garage", domain="one")
    measured(measure, clips)
    # Once, and for each of the bootstrap samples. The one domain is the whole, which is not measured again.
    assert Counter(measure.asked) == {6: NUM_RESAMPLES + 1, 2: NUM_RESAMPLES + 1, 4: NUM_RESAMPLES + 1}


def random_readings(num_clips, rng):
    """Columns with few different scores, clips without tokens, and clips without updates."""
    clip, lm_clip = np.sort(rng.integers(0, num_clips, 400)), np.sort(rng.integers(0, num_clips - 3, 300))
    turn_clip = np.sort(rng.integers(1, num_clips, 60))
    columns = {"clip": clip, "lm_clip": lm_clip, "turn_clip": turn_clip, "is_frame": rng.random(400) < 0.8}
    columns |= {"lm_loss": rng.exponential(1, 300).astype(np.float32), "lm_hit": rng.random(300) < 0.6}
    columns |= {"turn_hit": rng.random(60) < 0.5, "turn_is_dst": rng.random(60) < 0.6}
    for head in HEAD_NAMES:
        columns[head] = rng.choice([1, 0, 0, -100], 400)
        columns[f"{head}_logits"] = rng.integers(-3, 4, (400, 2)).astype(np.float32)
    return columns


def random_tallies(num_clips, rng):
    timelines = [
        Timeline(updates=[(float(at), ()) for at in np.sort(rng.integers(0, 60, 4))], states=[{}] * 4)
        for _ in range(2 * num_clips)
    ]
    clip = make_clip(end=120)
    return [tally(clip, *of_clip, 2.0) for of_clip in zip(timelines[::2], timelines[1::2], strict=True)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["teacher forced", "streamed"])
def test_the_measure_of_some_clips_is_that_of_all_with_weight_0_elsewhere(kind, seed):
    rng, num_clips = np.random.default_rng(seed), 30
    if kind == "streamed":
        measure = Tallies(random_tallies(num_clips, rng))
    else:
        minutes = {head: rng.random(num_clips) for head in HEAD_NAMES}
        measure = TeacherForced(random_readings(num_clips, rng), dict.fromkeys(HEAD_NAMES, 0.5), minutes)
    for number in (1, 2, 11, num_clips):
        members = np.sort(rng.permutation(num_clips)[:number])
        weights, everyone = rng.integers(0, 4, number).astype(float), np.zeros(num_clips)
        everyone[members] = weights
        assert measure.of_clips(members)(weights) == pytest.approx(measure(everyone), rel=1e-12)
