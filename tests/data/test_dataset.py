import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from dst_dist import config
from dst_dist.data import frames as frames_module
from dst_dist.data.batching import BatchPlan, Draw, MicroBatchSampler, MicroBatchSpec, micro_batches
from dst_dist.data.dataset import SampleDataset, apply_frame_faults, make_loader, read_split
from dst_dist.data.frames_check import check_frames
from dst_dist.data.samples import COUNT_NAMES, Limits, SampleMaker
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import DataError
from dst_dist.heads import HEAD_NAMES
from tests.data.dialogs import demo_tokenizer
from tests.data.handmade import grey, prospect_clip, update, write_prospect

SIZE = 14
CPU = torch.device("cpu")
DIALOGS = "cooking/prepared/train.jsonl"
ROOMY = Limits(4096, 2048)


def make_dataset(root, names=("kitchen", "toys", DIALOGS), limits=ROOMY, rate=1.0, on_missing="error", seed=0, **data):
    """As a run makes it: read, look at the frames, cut."""
    data = config.Data(root=str(root), train=list(names), on_missing=on_missing, context_seconds=1.0, **data)
    clips = read_split(data, "train")
    clips = apply_frame_faults(clips, check_frames(clips.index), on_missing)
    maker = SampleMaker(TokenWriter(demo_tokenizer(), 1), data, config.Labels(), limits)
    return SampleDataset(clips, maker, SIZE, seed, rate, on_missing)


def spec_of(dataset, *samples, epoch=0):
    draws = [Draw(sample, 0) for sample in samples]
    return MicroBatchSpec(0, epoch, draws, 0, True)


def frame_values(batch):
    """The value of each frame, all of whose pixels must have it."""
    flat = batch.frames.reshape(len(batch.frames), -1)
    assert torch.equal(flat.min(1).values, flat.max(1).values)
    return flat[:, 0].tolist()


def labels_by_frame(batch, head):
    """The labels of frames, without those of user turns."""
    is_frame = batch.decision_is_frame
    return dict(zip(batch.decision_frames[is_frame].tolist(), batch.decisions[head][is_frame].tolist(), strict=True))


def test_the_right_frames_are_at_the_right_place(root):
    dataset = make_dataset(root)
    assert dataset.samples["frames"].tolist() == [8, 8, 8]
    batch = dataset[spec_of(dataset, 1, 0, 2)]
    assert batch.frames.shape == (24, 3, SIZE, SIZE) and batch.frames.dtype == torch.uint8
    # toys shows frames 4 to 11 of its video, kitchen and the dialog 2 to 9 of theirs.
    expected = [*range(4, 12), *range(2, 10), *range(2, 10)]
    assert frame_values(batch) == [grey(frame) for frame in expected]
    image = batch.input_ids == dataset.maker.writer.image_id
    assert image.sum() == 24
    per_sample = [int(part.sum()) for part in image.split(batch.segment_lengths)]
    assert per_sample == [8, 8, 8]
    assert batch.num_placeholders == 0 and batch.fault is None
    assert batch.decision_frames[batch.decision_is_frame].tolist() == expected


def test_parts_of_a_clip_show_their_own_frames_and_their_context(root):
    dataset = make_dataset(root, ["kitchen"], Limits(4096, 5))
    shown = [frame_values(dataset[spec_of(dataset, sample)]) for sample in range(len(dataset))]
    assert shown == [[grey(frame) for frame in frames] for frames in ([2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9])]
    assert [dataset.sample_id(sample) for sample in range(3)] == [
        "kitchen/tea/0[2:5]",
        "kitchen/tea/0[5:8]",
        "kitchen/tea/0[8:10]",
    ]
    assert make_dataset(root, ["kitchen"]).sample_id(0) == "kitchen/tea/0"
    assert "1 clips split because they are too long" in dataset.notes


def test_event_frames_are_named_by_their_place_in_the_video(root):
    dataset = make_dataset(root, ["kitchen"], Limits(4096, 3), frames="event")
    # Turns lie on frames 2 to 4 and 6 to 7; frame 6 is too far from 4 for half of two frames of context.
    assert [dataset.sample_id(sample) for sample in range(len(dataset))] == ["kitchen/tea/0[2:5]", "kitchen/tea/0[6:8]"]
    assert frame_values(dataset[spec_of(dataset, 1)])[-2:] == [grey(6), grey(7)]


def test_each_frame_is_decoded_once(root, monkeypatch):
    decoded = Counter()
    decode = frames_module.decode_jpeg

    def counting(content):
        decoded[content] += 1
        return decode(content)

    dataset = make_dataset(root)
    monkeypatch.setattr(frames_module, "decode_jpeg", counting)
    dataset[spec_of(dataset, 0)]
    assert sum(decoded.values()) == 8 and set(decoded.values()) == {1}
    dataset[spec_of(dataset, 1, 2)]
    assert sum(decoded.values()) == 24
    dataset.counts([Draw(0, 0), Draw(1, 0)], epoch=0)
    assert sum(decoded.values()) == 24


def test_an_empty_micro_batch(root):
    dataset = make_dataset(root)
    batch = dataset[MicroBatchSpec(0, 0, [], 9, True)]
    assert batch.frames.shape == (0, 3, SIZE, SIZE)
    assert batch.input_ids.tolist() == [dataset.maker.writer.pad_id]


def counted(batches):
    """What micro-batches hold, by COUNT_NAMES."""
    counts = dict.fromkeys(COUNT_NAMES, 0)
    for batch in batches:
        counts["lm"] += len(batch.lm_targets)
        counts["dst_gen"] += int(batch.lm_is_dst.sum())
        for head, labels in batch.decisions.items():
            counts[f"{head}_positives"] += int((labels == 1).sum())
            counts[f"{head}_negatives"] += int((labels == 0).sum())
    return counts


def check_counts(dataset, batches):
    """The counts that are known of a step are what its micro-batches hold, on all processes together."""
    draws = [draw for batch in batches for draw in batch.spec.draws]
    assert dataset.counts(draws, batches[0].spec.epoch) == counted(batches)


def steps_of(dataset, num_processes, limits, epochs=1, global_batch_size=8):
    """By step, the micro-batches of each process."""
    plan = BatchPlan(dataset.weights, global_batch_size, 0, dataset.fingerprint)
    steps = {}
    stop = epochs * plan.steps_per_epoch
    for rank in range(num_processes):
        sampler = MicroBatchSampler(plan, dataset.samples, limits, rank, num_processes, 0, stop)
        for batch in make_loader(dataset, sampler, 0, CPU):
            steps.setdefault(batch.spec.step, {}).setdefault(rank, []).append(batch)
    return steps


def sampled_labels(steps, epoch):
    """By (sample, repeat), the labels of both heads in an epoch."""
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


@pytest.fixture
def demo_dataset(demo):
    """Several dozen samples, with a tenth of the negatives; one domain is drawn twice an epoch."""
    names = sorted(path.parent.name for path in demo.glob("*/train_training.json"))
    entries = [{names[0]: 2}, *names[1:], "proassist_demo/train.jsonl"]
    return make_dataset(demo, entries, Limits(4096, 12), rate=0.1)


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
    """Split in two, with a dataset that is not weighted; what is said of the clips themselves is said once."""
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


def test_weights_are_draws_an_epoch(root):
    dataset = make_dataset(root, [{"kitchen": 2}, "toys"], Limits(4096, 5))
    parts = [dataset.clips.index[int(clip)].dataset for clip in dataset.samples["clip"]]
    assert dataset.weights.tolist() == [{"kitchen": 2, "toys": 1}[name] for name in parts]
    assert parts.count("kitchen") == 3


def test_the_fingerprint_follows_the_data_and_not_where_it_lies(root, tmp_path):
    first = make_dataset(root).fingerprint
    assert make_dataset(root).fingerprint == first
    shutil.copytree(root, tmp_path / "moved")
    assert make_dataset(tmp_path / "moved").fingerprint == first
    others = [
        make_dataset(root, ["kitchen", "toys"]).fingerprint,
        make_dataset(root, limits=Limits(4096, 5)).fingerprint,
    ]
    clip = prospect_clip()
    clip["conversation"][1]["content"] = "I want tee."
    write_prospect(root, [clip])
    others.append(make_dataset(root).fingerprint)
    assert len({first, *others}) == 4


def equal(one, other):
    """Whether two micro-batches are the same in every field."""
    ours, theirs = ({**vars(batch), "decisions": None, **batch.decisions} for batch in (one, other))
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name]
        for name, value in ours.items()
    )


def test_workers_make_the_same_micro_batches_in_the_same_order(demo_dataset):
    plan = BatchPlan(demo_dataset.weights, 8, 0, demo_dataset.fingerprint)
    sampler = MicroBatchSampler(plan, demo_dataset.samples, Limits(600, 36), 1, 2, 1, 6)
    alone = list(make_loader(demo_dataset, sampler, 0, CPU))
    assert [batch.spec for batch in alone] == list(sampler) and len(alone) > 5
    helped = list(make_loader(demo_dataset, sampler, 2, CPU))
    assert len(helped) == len(alone)
    assert all(equal(one, other) for one, other in zip(alone, helped, strict=True))
    assert not equal(alone[0], alone[1])


def test_loading_leaves_the_random_state_of_training_alone(root):
    dataset = make_dataset(root)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    for workers in (0, 1):
        list(make_loader(dataset, [spec_of(dataset, 0)], workers, CPU))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_evaluation_batches_hold_every_sample_once(demo_dataset):
    draws = [Draw(sample, 0) for sample in range(len(demo_dataset))]
    specs = [micro_batches(0, 0, draws, demo_dataset.samples, Limits(600, 36), rank, 3) for rank in range(3)]
    assert sorted(draw for of_rank in specs for spec in of_rank for draw in spec.draws) == draws


def test_clips_that_cannot_be_cut_are_named_all_at_once(root):
    long = "Make tea " * 100
    clips = [prospect_clip(video_uid=f"tea-{number}", inferred_goal=long * (number % 2)) for number in range(5)]
    clips[4]["conversation"] = [*clips[4]["conversation"], update("S2", "complete", 9, 10)] + [
        {"role": "assistant", "content": "Well done. " * 200, "start_frame": 9, "end_frame": 10}
    ]
    write_prospect(root, clips)
    with pytest.raises(DataError) as caught:
        make_dataset(root, ["kitchen"], Limits(300, 100))
    assert ["tea-1" in fault or "tea-3" in fault or "tea-4" in fault for fault in caught.value.faults] == [True] * 3
    assert "opening turn" in caught.value.faults[0] and "frame 9 with its turns" in caught.value.faults[2]


def test_event_frames_of_clips_without_turns_leave_nothing(root):
    write_prospect(root, [prospect_clip(conversation=[{"role": "system", "content": "Watch."}])])
    with pytest.raises(DataError, match="there is no sample"):
        make_dataset(root, ["kitchen"], frames="event")
    dataset = make_dataset(root, ["kitchen", "toys"], frames="event")
    assert len(dataset) == 1
    assert "1 clips without a turn left out, data.frames=event has nothing to show" in dataset.notes


def test_nothing_is_said_of_clips_that_are_in_order(root):
    dataset = make_dataset(root, ["kitchen"])
    assert dataset.notes == ["1 DST_UPDATE turns joined with another of their frame"]
