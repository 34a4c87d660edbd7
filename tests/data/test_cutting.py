"""The table of samples, cut by one process or several."""

import dataclasses

import numpy as np
import pytest

from dst_dist import config
from dst_dist.data import cutting
from dst_dist.data.clips import ClipIndex
from dst_dist.data.cutting import SAMPLE_DTYPE, cut_clips
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import DataError
from tests.data.dialogs import demo_tokenizer


def maker(limits):
    return SampleMaker(TokenWriter(demo_tokenizer(), 1), config.Data(context_seconds=1.0), config.Labels(), limits)


def index_of(clip, number):
    """Clips of growing length; every third has two replies at a frame, which are joined and counted."""
    turns = clip.turns
    return ClipIndex.from_clips(
        dataclasses.replace(
            clip,
            id=f"c{place}",
            end_frame=clip.end_frame + place,
            turns=turns if place % 3 else (*turns, turns[-1], turns[3]),
        )
        for place in range(number)
    )


@pytest.mark.parametrize("num_workers", [2, 3])
def test_any_number_of_processes_cuts_in_the_same_way(public_clip, monkeypatch, num_workers):
    monkeypatch.setattr(cutting, "CLIPS_PER_TASK", 4)
    index, missing = index_of(public_clip, 21), {2: (5, 6), 20: (4,)}
    alone, notes = cut_clips(index, missing, maker(Limits(4096, 10)))
    table, their_notes = cut_clips(index, missing, maker(Limits(4096, 10)), num_workers)
    assert table.dtype == alone.dtype == SAMPLE_DTYPE and np.array_equal(table, alone)
    assert notes == their_notes and any("clips split" in note for note in notes) and len(notes) > 1
    assert sorted(set(table["clip"].tolist())) == list(range(21)) and len(table) > 21


def test_the_faults_of_all_processes_are_one_list(public_clip, monkeypatch):
    monkeypatch.setattr(cutting, "CLIPS_PER_TASK", 2)
    index = index_of(public_clip, 7)
    faults = []
    for num_workers in (0, 2):
        with pytest.raises(DataError) as error:
            cut_clips(index, {}, maker(Limits(100, 10)), num_workers)
        faults.append(error.value.faults)
    assert faults[0] == faults[1]
    assert {f"clip c{place}" for place in range(7)} <= {fault.partition(":")[0] for fault in faults[0]}


def test_no_sample_is_a_fault():
    with pytest.raises(DataError, match="there is no sample"):
        cut_clips(ClipIndex.from_clips([]), {}, maker(Limits(100, 10)))
