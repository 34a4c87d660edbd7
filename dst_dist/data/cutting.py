"""Cuts all clips of a split into samples, and keeps a row for each in one table."""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial

import numpy as np

from dst_dist.data.clips import ClipIndex
from dst_dist.data.forks import in_workers
from dst_dist.data.samples import COUNT_NAMES, SampleMaker
from dst_dist.errors import DataError

CUT_FIELDS = ("clip", "context", "start", "stop", "tokens", "frames")
SAMPLE_DTYPE = np.dtype([(name, np.int32) for name in (*CUT_FIELDS, *COUNT_NAMES)])
"""A row of the table of samples: the sample's part of its clip, its size, and its counted positions."""
CLIPS_PER_TASK = 100

Missing = Mapping[int, Collection[int]]


def cut_clips(
    index: ClipIndex, missing: Missing, maker: SampleMaker, num_workers: int = 0
) -> tuple[np.ndarray, list[str]]:
    """Return the table of samples, SAMPLE_DTYPE [num_samples], and notes on what was counted.

    Args:
        missing: absolute frames that are missing, by position in the index.
        num_workers: as in `in_workers`.

    Raises:
        DataError: with every clip with a turn that does not fit, or if there is no sample.
    """
    spans = [range(start, min(start + CLIPS_PER_TASK, len(index))) for start in range(0, len(index), CLIPS_PER_TASK)]
    tables, faults, counts = [np.empty(0, SAMPLE_DTYPE)], [], Counter()
    cut = partial(_cut_some, index, missing, maker)
    results = in_workers(cut, spans, list(map(len, spans)), "clips cut", num_workers)
    for table, faults_of_some, counts_of_some in results:
        tables.append(table)
        faults += faults_of_some
        counts.update(counts_of_some)
    samples = np.concatenate(tables)
    if faults:
        raise DataError(faults)
    if not len(samples):
        raise DataError("there is no sample: no clip has a frame to look at")
    return samples, [f"{number} {kind}" for kind, number in counts.items() if number]


def _cut_some(
    index: ClipIndex, missing: Missing, maker: SampleMaker, span: range
) -> tuple[np.ndarray, list[str], dict[str, int]]:
    """Return the rows of the clips at some positions, their faults, and what was counted."""
    rows, faults, counts = [], [], Counter()
    for position in span:
        try:
            parts = maker.split(index[position], counts, missing.get(position, ()))
        except DataError as error:
            faults += error.faults
            continue
        rows += [(position, *part[:4], part.num_frames, *part.counts) for part in parts]
    return np.array(rows, dtype=SAMPLE_DTYPE), faults, dict(counts)
