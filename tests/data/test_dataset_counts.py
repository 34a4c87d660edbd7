"""Counted positions: the same on any number of processes, and what a step's micro-batches hold."""

import numpy as np
import pytest
import torch

from dst_dist.data.batching import BatchPlan, Draw, MicroBatchSampler
from dst_dist.data.dataset import make_loader
from dst_dist.data.samples import Limits
from dst_dist.heads import HEAD_NAMES
from tests.data.datasets import CPU, DIALOGS, check_counts, make_dataset, spec_of
from tests.data.handmade import prospect_clip, write_prospect


def steps_of(dataset, num_processes, limits, epochs=1, global_batch_size=8):
    """Return the micro-batches by step and process."""
    plan = BatchPlan(dataset.weights, global_batch_size, 0, dataset.fingerprint)
    steps = {}
    stop = epochs * plan.steps_per_epoch
    for rank in range(num_processes):
        sampler = MicroBatchSampler(plan, dataset.samples, limits, rank, num_processes, start=0, stop=stop)
        for batch in make_loader(dataset, sampler, 0, CPU):
            steps.setdefault(batch.spec.step, {}).setdefault(rank, []).append(batch)
    return steps


def sampled_labels(steps, epoch):
    """Return the labels of both heads in an epoch, by (sample, repeat)."""
    found = {}
    for batch in (batch for ranks in steps.values() for batches in ranks.values() for batch in batches):
        if batch.spec.epoch != epoch:
            continue
        owner = np.searchsorted(np.cumsum(batch.segment_lengths), batch.decision_positions.numpy(), side="right")
        for place, draw in enumerate(batch.spec.draws):
            found[draw] = (
                batch.decisions["dst_update"][owner == place].tolist(),
                batch.decisions["speaking"][owner == place].tolist(),
            )
    return found


def test_counts_and_negatives_are_the_same_on_1_or_8_processes(demo_dataset):
    limits = Limits(600, 36)
    steps = {number: steps_of(demo_dataset, number, limits, epochs=2) for number in (1, 3, 8)}
    assert len(steps[1]) > 5
    for ranks in (ranks for of_number in steps.values() for ranks in of_number.values()):
        assert len({len(batches) for batches in ranks.values()}) == 1
        check_counts(demo_dataset, [batch for batches in ranks.values() for batch in batches])
        for batches in ranks.values():
            assert [batch.spec.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert any(len(batches) > 1 for ranks in steps[1].values() for batches in ranks.values())
    for epoch in (0, 1):
        one, three, eight = (sampled_labels(steps[number], epoch) for number in (1, 3, 8))
        assert len(one) == demo_dataset.weights.sum()
        assert one == three == eight
    assert sampled_labels(steps[1], 0) != sampled_labels(steps[1], 1)


def test_equal_clips_do_not_have_the_same_negatives(root):
    write_prospect(root, [prospect_clip(), prospect_clip()])
    dataset = make_dataset(root, ["kitchen"], rate=0.5)
    kept = [
        [dataset.sample(Draw(clip, 0), epoch).decisions["speaking"].tolist() for epoch in range(5)] for clip in range(2)
    ]
    assert kept[0] != kept[1]


def test_the_rate_of_negatives_is_kept_and_no_input_changes(demo):
    names = sorted(path.parent.name for path in demo.glob("*/train_training.json"))
    whole, sampled = (make_dataset(demo, names, Limits(4096, 12), rate=rate) for rate in (1.0, 0.1))
    draws = [Draw(sample, 0) for sample in range(len(whole))]
    all_counts = whole.counts(draws, 0)
    for name, number in all_counts.items():
        mean = np.mean([sampled.counts(draws, epoch)[name] for epoch in range(10)])
        assert mean == (pytest.approx(0.1 * number, rel=0.1) if name.endswith("negatives") else number)
    one, other = whole[spec_of(whole, 0, 1)], sampled[spec_of(sampled, 0, 1)]
    for name in ("input_ids", "frames", "lm_positions", "lm_targets", "decision_positions"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def classes_in(counts):
    return {head: (counts[f"{head}_positives"], counts[f"{head}_negatives"]) for head in HEAD_NAMES}


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_expected_classes_are_what_an_epoch_counts(demo, rate):
    names = sorted(path.parent.name for path in demo.glob("*/train_training.json"))
    draws = [Draw(sample, 0) for sample in range(len(make_dataset(demo, names)))]
    every = classes_in(make_dataset(demo, names).counts(draws, 0))
    expected = make_dataset(demo, names, rate=rate).expected_classes()
    assert expected == {
        head: (positives, pytest.approx(rate * negatives)) for head, (positives, negatives) in every.items()
    }


def test_clips_count_as_often_as_they_are_drawn(root):
    """Weights multiply the counts of split clips, and not the notes on the clips."""
    names = [{"kitchen": 3}, "toys", DIALOGS]
    dataset, once = (make_dataset(root, names, Limits(4096, 5)) for names in (names, ["kitchen", "toys", DIALOGS]))
    plan = BatchPlan(dataset.weights, 4, 0, dataset.fingerprint)
    draws = [draw for _, _, draws in plan.steps(0, plan.steps_per_epoch) for draw in draws]
    classes = classes_in(dataset.counts(draws, 0))
    assert dataset.expected_classes() == classes
    assert dataset.positive_rates() == {head: one[0] / sum(one) for head, one in classes.items()}
    assert dataset.expected_classes() != once.expected_classes() and dataset.notes == once.notes


def test_the_rate_of_updates_is_that_of_clips_with_steps(root):
    alone, both = (make_dataset(root, names).positive_rates() for names in (["kitchen"], ["kitchen", DIALOGS]))
    assert both["dst_update"] == alone["dst_update"] > 0 and both["speaking"] != alone["speaking"]
