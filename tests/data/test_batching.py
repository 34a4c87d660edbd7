"""The plan of batches, packing, and the packed micro-batch."""

import dataclasses
import random
from collections import Counter

import numpy as np
import pytest
import torch

from dst_dist.data.batching import (
    ENCODED_FRAME_COST,
    BatchPlan,
    Draw,
    MicroBatchSampler,
    MicroBatchSpec,
    collate,
    micro_batches,
    pack,
)
from dst_dist.data.conversation import IGNORE
from dst_dist.data.cutting import SAMPLE_DTYPE
from dst_dist.data.samples import Limits
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_NAMES
from tests.data.dialogs import all_parts, make_clip, make_maker, random_clip, reply, update, user, whole_sample

PROCESSES = [1, 2, 3, 8, 64]
LIMITS = Limits(tokens=8192, frames=600)


def make_plan(weights=(1,) * 50, global_batch_size=8, seed=0, fingerprint="ab" * 32):
    return BatchPlan(np.array(weights), global_batch_size, seed, fingerprint)


def make_table(number, seed=0, largest=4096):
    """Sizes of samples: most are short, some as long as a sample may be; a frame and its text are about 8 tokens."""
    rng = np.random.default_rng(seed)
    table = np.zeros(number, SAMPLE_DTYPE)
    table["tokens"] = np.clip(rng.lognormal(6.5, 1.0, number), 60, largest)
    table["frames"] = table["tokens"] // 8
    return table


def all_steps(plan, epochs=1):
    return list(plan.steps(0, epochs * plan.steps_per_epoch))


def test_every_draw_comes_once_an_epoch():
    plan = make_plan()
    steps = all_steps(plan, 3)
    assert plan.num_draws == 50 and plan.steps_per_epoch == 7
    assert [(step, epoch) for step, epoch, _ in steps] == [(step, step // 7) for step in range(21)]
    assert [len(draws) for _, _, draws in steps] == [8, 8, 8, 8, 8, 8, 2] * 3
    for epoch in range(3):
        drawn = [draw for _, of_epoch, draws in steps for draw in draws if of_epoch == epoch]
        assert sorted(drawn) == [Draw(sample, 0) for sample in range(50)]


def test_a_weight_is_the_number_of_draws_an_epoch():
    plan = make_plan(weights=[1, 2, 3, 1], global_batch_size=3)
    assert plan.num_draws == 7 and plan.steps_per_epoch == 3
    drawn = [draw for _, _, draws in all_steps(plan) for draw in draws]
    assert sorted(drawn) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0)]


def test_the_order_follows_from_seed_epoch_data_and_global_batch_size_alone():
    def order(**changes):
        epoch = changes.pop("epoch", 0)
        return make_plan(**changes).epoch_order(epoch).tolist()

    np.random.seed(1)
    random.seed(1)
    first = order()
    np.random.seed(2)
    random.seed(2)
    assert order() == first
    others = [order(epoch=1), order(seed=1), order(fingerprint="cd" * 32), order(global_batch_size=9), first]
    assert len({tuple(other) for other in others}) == len(others)
    assert first != sorted(first)
    assert make_plan(fingerprint="ab" * 32).epoch_order(0).tolist() == first


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 13, 14, 20])
def test_starting_at_any_step_equals_running_there(start):
    plan = make_plan()
    assert list(plan.steps(start, 21)) == all_steps(plan, 3)[start:]
    table = make_table(50)
    for rank in range(2):
        whole = list(MicroBatchSampler(plan, table, LIMITS, rank, 2, start=0, stop=21))
        jumped = list(MicroBatchSampler(plan, table, LIMITS, rank, 2, start=start, stop=21))
        assert jumped == [spec for spec in whole if spec.step >= start]


def test_the_same_samples_make_the_same_step_on_any_number_of_processes():
    plan = make_plan(weights=[1, 2] * 60, global_batch_size=64)
    table = make_table(120)
    expected = {(step, epoch): sorted(draws) for step, epoch, draws in all_steps(plan, 2)}
    for num_processes in PROCESSES:
        found = {key: [] for key in expected}
        for rank in range(num_processes):
            for spec in MicroBatchSampler(plan, table, LIMITS, rank, num_processes, start=0, stop=6):
                found[spec.step, spec.epoch] += spec.draws
        assert {key: sorted(draws) for key, draws in found.items()} == expected


@pytest.mark.parametrize("num_processes", PROCESSES)
@pytest.mark.parametrize("number", [1, 5, 64, 200])
def test_micro_batches_keep_the_limits_and_every_process_has_as_many(num_processes, number):
    table = make_table(number, seed=number)
    draws = [Draw(sample, 0) for sample in range(number)]
    dealt = pack(draws, table, LIMITS, num_processes)
    assert len(dealt) == num_processes
    assert len({len(own) for own in dealt}) == 1
    assert sorted(draw for own in dealt for members in own for draw in members) == draws
    for members in (members for own in dealt for members in own):
        chosen = [draw.sample for draw in members]
        assert table["tokens"][chosen].sum() <= LIMITS.tokens
        assert table["frames"][chosen].sum() <= LIMITS.frames
    if number <= num_processes:
        assert len(dealt[0]) == 1
        assert sum(bool(own[0]) for own in dealt) == number


@pytest.mark.parametrize("num_processes", [2, 3, 8])
def test_no_process_waits_long_for_another(num_processes):
    for seed in range(20):
        table = make_table(128, seed, largest=2048)
        dealt = pack([Draw(i, 0) for i in range(128)], table, LIMITS, num_processes)
        cost = table["tokens"] + ENCODED_FRAME_COST * table["frames"]
        work = np.array([[sum(cost[draw.sample] for draw in members) for members in own] for own in dealt])
        assert work.sum(axis=1).max() <= 1.1 * work.sum(axis=1).mean()
        # What counts is the slowest of every round, as all wait for it.
        assert work.max(axis=0).sum() <= 1.2 * work.sum(axis=1).mean()


def test_few_micro_batches_are_empty_and_few_are_half_empty():
    for seed in range(20):
        table = make_table(512, seed)
        dealt = pack([Draw(i, 0) for i in range(512)], table, LIMITS, 8)
        fewest = max(table["tokens"].sum() / LIMITS.tokens, table["frames"].sum() / LIMITS.frames) / 8
        assert len(dealt[0]) <= 1.25 * fewest + 1
        assert all(members for own in dealt for members in own)


def test_samples_that_never_share_a_micro_batch():
    tokens, frames = np.full(30, 5000), np.full(30, 10)
    dealt = pack([Draw(i, 0) for i in range(30)], {"tokens": tokens, "frames": frames}, LIMITS, 4)
    assert [len(own) for own in dealt] == [8] * 4
    assert all(len(members) <= 1 for own in dealt for members in own)
    tokens, frames = np.full(30, 10), np.full(30, 400)
    assert len(pack([Draw(i, 0) for i in range(30)], {"tokens": tokens, "frames": frames}, LIMITS, 4)[0]) == 8


def test_a_sample_of_exactly_the_limits_fits_and_a_larger_one_is_refused():
    draws = [Draw(0, 0)]
    assert pack(draws, {"tokens": np.array([8192]), "frames": np.array([600])}, LIMITS, 1) == [[draws]]
    for tokens, frames in ((8193, 1), (1, 601)):
        with pytest.raises(AssertionError, match="limits"):
            pack(draws, {"tokens": np.array([tokens]), "frames": np.array([frames])}, LIMITS, 1)


def test_packing_does_not_depend_on_the_order_of_the_draws():
    table = make_table(64)
    draws = [Draw(sample, repeat) for sample in range(32) for repeat in range(2)]
    dealt = pack(draws, table, LIMITS, 3)
    assert pack(draws[::-1], table, LIMITS, 3) == dealt


def test_a_micro_batch_names_its_step_and_the_largest_of_its_round():
    table = make_table(40)
    draws = [Draw(sample, 0) for sample in range(40)]
    limits = Limits(4096, 512)
    of_rank = [micro_batches(5, 2, draws, table, limits, rank, 3) for rank in range(3)]
    number = len(of_rank[0])
    assert number > 2
    for specs in of_rank:
        assert {(spec.step, spec.epoch) for spec in specs} == {(5, 2)}
        assert [spec.is_last for spec in specs] == [False] * (number - 1) + [True]
    for turn in zip(*of_rank, strict=True):
        num_frames = [int(table["frames"][[draw.sample for draw in spec.draws]].sum()) for spec in turn]
        assert {spec.round_frames for spec in turn} == {max(num_frames)}


def test_a_process_without_a_sample_still_has_its_micro_batch():
    table = make_table(1)
    specs = [micro_batches(0, 0, [Draw(0, 0)], table, LIMITS, rank, 4)[0] for rank in range(4)]
    assert [spec.draws for spec in specs] == [[Draw(0, 0)], [], [], []]
    assert {(spec.round_frames, spec.is_last) for spec in specs} == {(int(table["frames"][0]), True)}


SPEC = MicroBatchSpec(0, 0, [], 0, True)


def packed(samples):
    frames = np.zeros((sum(len(sample.frames) for sample in samples), 3, 2, 2), np.uint8)
    return collate(samples, SPEC, frames, pad_id=2)


def random_samples(seed):
    rng = random.Random(seed)
    maker = make_maker(tokens_per_frame=rng.choice([1, 4]), limits=Limits(300, 64))
    clips = [random_clip(rng, rng.randint(1, 40), rng.randint(0, 15)) for _ in range(4)]
    return [sample for clip in clips for _, sample in all_parts(maker, clip)]


def test_labels_are_shifted_once_and_never_into_another_sample():
    num_targets = 0
    for seed in range(30):
        samples = random_samples(seed)
        batch = packed(samples)
        assert sum(batch.segment_lengths) == len(batch.input_ids)
        assert torch.equal(batch.lm_targets, batch.input_ids[batch.lm_positions + 1])
        segment = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(batch.segment_lengths))
        assert torch.equal(segment[batch.lm_positions], segment[batch.lm_positions + 1])
        assert len(batch.lm_targets) == sum((sample.labels != IGNORE).sum() for sample in samples)
        num_targets += len(batch.lm_targets)
    assert num_targets > 1000


def test_the_first_target_is_the_first_token_of_the_body_and_the_last_ends_the_turn():
    maker = make_maker()
    turn = maker.writer.turn("assistant", "Take the cup.")
    sample = whole_sample(maker, make_clip(reply(2)))
    batch = packed([sample, sample])
    once = len(turn.body)
    assert batch.lm_targets.tolist() == turn.body * 2
    assert batch.input_ids[batch.lm_positions].tolist() == [turn.header[-1], *turn.body[:-1]] * 2
    assert batch.lm_targets[once - 1] == maker.writer.end_id
    assert maker.writer.newline[0] not in batch.lm_targets.tolist()


def test_packed_samples_are_the_samples_one_after_another():
    samples = [whole_sample(make_maker(), make_clip(*turns, end=6)) for turns in ([update(1), user(3)], [], [reply(2)])]
    batch = packed(samples)
    alone = [packed([sample]) for sample in samples]
    starts = np.cumsum([0, *batch.segment_lengths[:-1]]).tolist()
    assert batch.segment_lengths == [len(sample.input_ids) for sample in samples]
    for name in ("input_ids", "lm_targets", "lm_is_dst", "decision_is_frame", "decision_frames"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(one, name) for one in alone]))
    for head in HEAD_NAMES:
        assert torch.equal(batch.decisions[head], torch.cat([one.decisions[head] for one in alone]))
    for name in ("lm_positions", "decision_positions"):
        shifted = [getattr(one, name) + start for one, start in zip(alone, starts, strict=True)]
        assert torch.equal(getattr(batch, name), torch.cat(shifted))
    # The update of the first sample is turn 0, the reply of the third is turn 1.
    assert Counter(batch.lm_turn.tolist()) == {0: len(alone[0].lm_turn), 1: len(alone[2].lm_turn)}
    image = batch.input_ids == make_maker().writer.image_id
    assert torch.all(image[batch.decision_positions[batch.decision_is_frame]])
    assert image.sum() == len(batch.frames) == 18


def test_types_of_a_micro_batch_with_and_without_samples():
    full, empty = packed([whole_sample(make_maker(), make_clip(update(1), user(2)))]), packed([])
    for name, value in vars(full).items():
        if torch.is_tensor(value):
            assert getattr(empty, name).dtype == value.dtype, name
            assert value.dtype == {"frames": torch.uint8}.get(name, torch.bool if "_is_" in name else torch.int64)
    assert empty.input_ids.tolist() == [2] and empty.segment_lengths == [1]
    assert empty.frames.shape == (0, 3, 2, 2)
    for name in ("lm_positions", "lm_targets", "lm_is_dst", "lm_turn", "decision_positions"):
        assert getattr(empty, name).shape == (0,)
    assert {head: (one.shape, one.dtype) for head, one in empty.decisions.items()} == dict.fromkeys(
        HEAD_NAMES, ((0,), torch.int64)
    )


def test_moving_a_micro_batch_keeps_all_of_it():
    batch = packed([whole_sample(make_maker(), make_clip(update(1), user(2)))])
    batch.num_placeholders = 3
    moved = batch.to(torch.device("meta"))
    for head, labels in batch.decisions.items():
        assert moved.decisions[head].device.type == "meta" and moved.decisions[head].shape == labels.shape
    for field in dataclasses.fields(batch):
        value, other = getattr(batch, field.name), getattr(moved, field.name)
        if torch.is_tensor(value):
            assert other.device.type == "meta" and other.shape == value.shape
        elif field.name != "decisions":
            assert other is value
    batch.fault = "frame 3 cannot be decoded"
    with pytest.raises(DataError, match="frame 3"):
        batch.to(torch.device("meta")).check()


def loads_of(dealt, tokens):
    return [[sum(int(tokens[draw.sample]) for draw in members) for members in own] for own in dealt]


def test_a_process_with_the_largest_micro_batch_gets_the_smallest_too():
    tokens = np.array([90, 80, 70, 60])
    dealt = pack([Draw(i, 0) for i in range(4)], {"tokens": tokens, "frames": np.ones(4, int)}, Limits(100, 10), 2)
    assert loads_of(dealt, tokens) == [[90, 60], [80, 70]]


def test_when_a_round_more_is_needed_all_of_them_share_the_work():
    tokens = np.array([50, 50, 40, 30, 30])
    # Two micro-batches of 100 would hold the sum of 200, but no choice of these makes 100 twice by largest first.
    dealt = pack([Draw(i, 0) for i in range(5)], {"tokens": tokens, "frames": np.ones(5, int)}, Limits(100, 10), 1)
    assert loads_of(dealt, tokens) == [[80, 70, 50]]
