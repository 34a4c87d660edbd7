"""Confidence intervals over videos, and metrics by dataset and by domain, of any measure of clip weights.

A measure is a function of clip weights. A group is weights of 0 and 1; a bootstrap sample is how often each video was
drawn (Efron and Tibshirani 1993, percentile intervals). Clips of one video are drawn together: they are not
independent.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dst_dist.data.clips import Clip
from dst_dist.measure.decisions import Metrics

Measure = Callable[[np.ndarray], Metrics]
"""Returns metrics for whole-numbered float64 weights [num_clips]; what does not apply is absent."""

NUM_RESAMPLES = 500
CONFIDENCE = 0.95


def measured(measure: Measure, clips: Sequence[Clip]) -> dict[str, Any]:
    """Return metrics, `<key>/ci95` with two videos or more, and the same for groups in `by_dataset` and `by_domain`."""
    videos = np.unique([clip.video for clip in clips], return_inverse=True)[1]
    result: dict[str, Any] = _with_intervals(measure, np.ones(len(clips)), videos)
    for kind in ("dataset", "domain"):
        names = [getattr(clip, kind) for clip in clips]
        groups = {
            group: _with_intervals(measure, np.array([float(name == group) for name in names]), videos)
            for group in sorted({name for name in names if name is not None})
        }
        if groups:
            result[f"by_{kind}"] = groups
    return result


def _with_intervals(measure: Measure, chosen: np.ndarray, videos: np.ndarray) -> dict[str, Any]:
    """Return the metrics of the chosen clips (weights 0 and 1), each with the interval of its bootstrap samples."""
    result: dict[str, Any] = dict(measure(chosen))
    members = np.unique(videos[chosen > 0])
    result["num_videos"] = len(members)
    if len(members) < 2:
        return result
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {}
    for counts in rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=NUM_RESAMPLES):
        times = np.zeros(videos.max() + 1)
        times[members] = counts
        for key, value in measure(chosen * times[videos]).items():
            drawn.setdefault(key, []).append(value)
    tail = (1 - CONFIDENCE) / 2
    for key, values in drawn.items():
        if key in result and not key.startswith("num_"):
            result[f"{key}/ci95"] = [float(bound) for bound in np.quantile(values, (tail, 1 - tail))]
    return result
