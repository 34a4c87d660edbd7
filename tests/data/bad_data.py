"""Data files with one thing wrong, and the error of reading them."""

import pytest

from dst_dist.data.frames_check import check_frames
from dst_dist.data.reading import read_clips
from dst_dist.errors import DataError
from tests.data.handmade import (
    make_root,
    proassist_clip,
    prospect_clip,
    spoken,
    update,
    write_proassist,
    write_prospect,
)

FILE = "kitchen/train_training.json"
LINES = "cooking/prepared/train.jsonl"
TEA = f"{FILE}: clip kitchen/tea/0"
SOUP = f"{LINES}: clip cooking/soup/0"
FRAMES = "kitchen/frames/tea.arrow"


def prospect(**changes):
    """Writes a kitchen clip with these keys changed."""
    return lambda root: write_prospect(root, [prospect_clip(**changes)])


def without(key, make=prospect_clip):
    def write(root):
        clip = make()
        del clip[key]
        write_prospect(root, [clip])

    return write


def turns(*conversation, **changes):
    return prospect(conversation=list(conversation), **changes)


def turn(**changes):
    """A clip whose one turn, the second of the list, is a user turn with these keys changed."""
    return turns({"role": "system", "content": "x"}, {**spoken("user", "hi", 2, 4), **changes})


def change(content, **changes):
    """A clip whose one turn is an update with this content."""
    return turns({**update("S1", "start", 2, 4), "content": content}, **changes)


def proassist(**changes):
    return lambda root: write_proassist(root, [proassist_clip(**changes)])


def dialog(*conversation):
    return proassist(conversation=list(conversation))


def frames(start, end):
    return {"role": "frames", "start": start, "end": end}


def text(file, content):
    """Writes bytes to a file below the root."""
    return lambda root: (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def fault_of(root, names=("kitchen", LINES), split="train"):
    """The DataError of reading these names strictly and then looking at the frames."""
    with pytest.raises(DataError) as caught:
        index, _, _ = read_clips(root, list(names), split, strict=True)
        faults = check_frames(index)
        raise DataError(list(faults.clips.values())) if faults.clips else AssertionError("no fault was found")
    return caught.value


def check_fault(root, spoil, words):
    """Check that spoiling a good root gives one or two faults that hold all of the words."""
    make_root(root)
    assert not check_frames(read_clips(root, ["kitchen", LINES], "train", strict=True)[0]).clips
    spoil(root)
    error = fault_of(root)
    assert type(error) is DataError
    assert len(error.faults) <= 2
    for word in words:
        assert word in str(error)
