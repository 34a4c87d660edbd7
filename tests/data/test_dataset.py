"""The samples of a split and their micro-batches, in this process and in data workers."""

import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from dst_dist.data import frames as frames_module
from dst_dist.data.batching import BatchPlan, Draw, MicroBatchSampler, MicroBatchSpec, micro_batches
from dst_dist.data.dataset import make_loader
from dst_dist.data.samples import Limits
from dst_dist.errors import DataError
from tests.data.datasets import CPU, SIZE, frame_values, make_dataset, spec_of
from tests.data.handmade import grey, prospect_clip, update, write_prospect


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
    """Return whether two micro-batches are the same in every field."""
    ours, theirs = ({**vars(batch), "decisions": None, **batch.decisions} for batch in (one, other))
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name]
        for name, value in ours.items()
    )


def test_workers_make_the_same_micro_batches_in_the_same_order(demo_dataset):
    plan = BatchPlan(demo_dataset.weights, 8, 0, demo_dataset.fingerprint)
    sampler = MicroBatchSampler(plan, demo_dataset.samples, Limits(600, 36), 1, 2, start=1, stop=6)
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


def test_no_note_on_clips_without_faults(root):
    dataset = make_dataset(root, ["kitchen"])
    assert dataset.notes == ["1 DST_UPDATE turns joined with another of their frame"]
