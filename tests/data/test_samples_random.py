"""Random and very long clips: limits, supervision, states and cuts of their parts."""

import random
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from dst_dist.data.conversation import IGNORE, arrange
from dst_dist.data.samples import Limits, Part
from dst_dist.data.state import apply_update, format_state
from dst_dist.errors import DataError
from tests.data.dialogs import all_parts, counts_of, decoded, make_maker, random_clip, supervised_texts, whole_sample


@pytest.mark.parametrize("frames", ["continuous", "event"])
@pytest.mark.parametrize("positive_frames", ["last", "all"])
def test_any_clip_in_any_limits(frames, positive_frames):
    """Random clips: limits kept, all supervised exactly once, context silent, the right state, cuts at turns."""
    num_split = 0
    for seed in range(150):
        rng = random.Random(seed)
        clip = random_clip(rng, num_frames=rng.randint(1, 60), num_turns=rng.randint(0, 30))
        tokens_per_frame = rng.choice([1, 4])
        options = {"tokens_per_frame": tokens_per_frame, "frames": frames, "positive_frames": positive_frames}
        header = len(make_maker(**options).writer.header(clip, {}))
        limits = Limits(header + rng.randint(40, 400), rng.randint(1, 40))
        maker = make_maker(limits=limits, context_seconds=rng.choice([0, 0.5, 2, 10]), **options)
        try:
            parts = all_parts(maker, clip)
        except DataError as error:
            assert all(clip.id in fault for fault in error.faults)
            continue
        num_split += len(parts) > 1
        check_parts(maker, clip, parts)
    assert num_split > 60


def check_parts(maker, clip, parts):
    groups = arrange(clip, maker.data.frames, maker.labels.positive_frames)
    assert [part.start for part, _ in parts] == [0, *(part.stop for part, _ in parts)][: len(parts)]
    assert not groups or parts[-1][0].stop == len(groups)
    whole = make_maker(
        tokens_per_frame=maker.writer.tokens_per_frame,
        frames=maker.data.frames,
        positive_frames=maker.labels.positive_frames,
        limits=Limits(10**6, 10**6),
    )
    state, samples = clip.initial_state, [sample for _, sample in parts]
    for part, sample in parts:
        check_part(maker, clip, groups, part, sample, state)
        for turn in (turn for group in groups[part.start : part.stop] for turn in group.turns):
            state, _ = apply_update(state, turn.transitions)
    for (part, _), (following, _) in pairwise(parts):
        check_cut(maker, groups, part, following)
    if parts:
        uncut = whole_sample(whole, clip)
        for name in ("decision_frames", "decision_is_frame"):
            assert np.array_equal(np.concatenate([getattr(sample, name) for sample in samples]), getattr(uncut, name))
        for head, labels in uncut.decisions.items():
            assert np.array_equal(np.concatenate([sample.decisions[head] for sample in samples]), labels)
        assert np.sum([counts_of(sample) for sample in samples], axis=0).tolist() == counts_of(uncut)
        assert [list(part.counts) for part, _ in parts] == [counts_of(sample) for sample in samples]
        assert sum((supervised_texts(maker, sample) for sample in samples), []) == supervised_texts(whole, uncut)


def check_part(maker, clip, groups, part: Part, sample, state):
    frames = [group.frame for group in groups[part.context : part.stop]]
    supervised = [group.frame for group in groups[part.start : part.stop]]
    assert sample.frames.tolist() == frames
    assert len(frames) == part.num_frames <= maker.limits.frames
    assert len(sample.input_ids) == part.num_tokens <= maker.limits.tokens
    assert sample.decision_frames[sample.decision_is_frame].tolist() == supervised
    assert supervised[0] - frames[0] <= round(maker.data.context_seconds * clip.fps)
    header = maker.writer.header(clip, state)
    assert sample.input_ids[: len(header)].tolist() == header
    assert f"State: {format_state(state, ['S1', 'S2'])}<end" in decoded(maker, header)
    context = (part.start - part.context) * maker.writer.tokens_per_frame
    before = slice(len(header), len(header) + context)
    assert set(sample.input_ids[before].tolist()) <= {maker.writer.image_id}
    assert set(sample.labels[: before.stop].tolist()) == {IGNORE}
    assert sample.decision_positions.min() >= before.stop
    inside = sample.labels != IGNORE
    assert np.array_equal(sample.labels[inside], sample.input_ids[inside])


def check_cut(maker, groups, part: Part, following: Part):
    """A part ends behind a turn, unless none of its frames has any and one frame more would not have fitted."""
    if groups[part.stop - 1].turns:
        return
    assert not any(group.turns for group in groups[part.start : part.stop])
    next_turns = groups[part.stop].turns
    more = maker.writer.tokens_per_frame + sum(len(maker.writer.turn(turn.role, turn.text)) for turn in next_turns)
    assert part.num_frames == maker.limits.frames or part.num_tokens + more > maker.limits.tokens


def test_a_video_of_two_hours_is_split_at_once():
    clip = random_clip(random.Random(0), num_frames=14_400, num_turns=1_500)
    maker = make_maker(limits=Limits(4096, 512), context_seconds=10)
    started = time.process_time()
    parts = maker.split(clip, Counter())
    assert time.process_time() - started < 5
    some = [parts[0], parts[len(parts) // 2], parts[-1]]
    samples = [maker.make(clip, part) for part in some]
    assert time.process_time() - started < 10
    assert sum(part.stop - part.start for part in parts) == 14_400
    assert [len(sample.frames) for sample in samples] == [part.num_frames for part in some]
