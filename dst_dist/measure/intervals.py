"""Confidence intervals over videos, and metrics by dataset and by domain, of any measure of clip weights.

A measure is a function of clip weights. A group is the measure of its clips alone; a bootstrap sample is how often each
video was drawn (Efron and Tibshirani 1993, percentile intervals). Clips of one video are drawn together: they are not
independent.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dst_dist.data.clips import Clip
from dst_dist.measure.decisions import Metrics


class Measure(Protocol):
    """Metrics of a split for weights of its clips."""

    def __call__(self, weights: np.ndarray) -> Metrics:
        """Return metrics for whole-numbered float64 weights [num_clips]; one that does not apply is absent."""

    def of_clips(self, members: np.ndarray) -> "Measure":
        """Return the measure of some clips alone, by their positions: its weights are those of `members`."""


NUM_RESAMPLES = 500
CONFIDENCE = 0.95


def measured(measure: Measure, clips: Sequence[Clip]) -> dict[str, Any]:
    """Return metrics, `<key>/ci95` with two videos or more, and the same for groups in `by_dataset` and `by_domain`."""
    videos = np.unique([clip.video for clip in clips], return_inverse=True)[1]
    whole = _with_intervals(measure, videos)
    result: dict[str, Any] = dict(whole)
    for kind in ("dataset", "domain"):
        names = [getattr(clip, kind) for clip in clips]
        groups = {}
        for group in sorted({name for name in names if name is not None}):
            members = np.flatnonzero([name == group for name in names])
            is_whole = len(members) == len(clips)
            groups[group] = whole if is_whole else _with_intervals(measure.of_clips(members), videos[members])
        if groups:
            result[f"by_{kind}"] = groups
    return result


def _with_intervals(measure: Measure, videos: np.ndarray) -> dict[str, Any]:
    """Return the metrics of all clips, each with the interval of its bootstrap samples."""
    result: dict[str, Any] = dict(measure(np.ones(len(videos))))
    members, video = np.unique(videos, return_inverse=True)
    result["num_videos"] = len(members)
    if len(members) < 2:
        return result
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {}
    for counts in rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=NUM_RESAMPLES):
        for key, value in measure(counts[video].astype(np.float64)).items():
            drawn.setdefault(key, []).append(value)
    tail = (1 - CONFIDENCE) / 2
    for key, values in drawn.items():
        if key in result and not key.startswith("num_"):
            result[f"{key}/ci95"] = [float(bound) for bound in np.quantile(values, (tail, 1 - tail))]
    return result
