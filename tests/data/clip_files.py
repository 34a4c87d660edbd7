"""Clip files written for a test and read again."""

from dst_dist.data.reading import read_clips
from tests.data.handmade import prospect_clip, write_prospect


def read(root, *names, split="train", strict=True):
    return read_clips(root, list(names), split, strict)


def read_one(root, clip, strict=True):
    write_prospect(root, [clip])
    index, _, report = read(root, "kitchen", strict=strict)
    assert len(index) == 1
    return index[0], report


def with_turns(*turns, **changes):
    return prospect_clip(conversation=list(turns), **changes)
