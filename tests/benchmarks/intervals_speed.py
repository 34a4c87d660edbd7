"""`python -m tests.benchmarks.intervals_speed [--clips 10000] [--groups 10] [--compared 400]`: confidence intervals.

Makes readings and streams of made-up clips (60 frames, 150 supervised tokens, 6 events each), two clips a video, in
equal groups by dataset and by domain. Measures `--compared` of them as before (every group and every bootstrap sample
works over all positions) and as now, checks that the numbers agree, and then times all clips as now. Prints one table.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dst_dist.data.clips import Clip
from dst_dist.heads import HEAD_NAMES
from dst_dist.measure.decisions import Decisions, Metrics, precision_recall_f1, ratios
from dst_dist.measure.events import TOLERANCES_S, Tallies, Tally
from dst_dist.measure.intervals import Measure, measured
from dst_dist.measure.teacher_forced import TeacherForced
from tests.data.dialogs import make_clip

FRAMES, TOKENS, TURNS = 60, 150, 6


def make_clips(number: int, num_groups: int) -> list[Clip]:
    clip = make_clip(end=FRAMES)
    return [
        replace(clip, video=f"video {i // 2}", dataset=f"set {i * num_groups // number}", domain=f"d {i % num_groups}")
        for i in range(number)
    ]


def make_columns(num_clips: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Readings as `model.readings` makes them; 5 % positives, which score higher."""

    def by_clip(each: int) -> np.ndarray:
        return np.repeat(np.arange(num_clips), each)

    columns = {
        "clip": by_clip(FRAMES),
        "is_frame": rng.random(num_clips * FRAMES) < 0.95,
        "lm_clip": by_clip(TOKENS),
        "lm_loss": rng.exponential(1, num_clips * TOKENS).astype(np.float32),
        "lm_hit": rng.random(num_clips * TOKENS) < 0.7,
        "turn_clip": by_clip(TURNS),
        "turn_hit": rng.random(num_clips * TURNS) < 0.4,
        "turn_is_dst": rng.random(num_clips * TURNS) < 0.5,
    }
    for head in HEAD_NAMES:
        columns[head] = (rng.random(num_clips * FRAMES) < 0.05).astype(np.int64)
        logits = rng.normal(size=(num_clips * FRAMES, 2)).astype(np.float32)
        logits[:, 1] += 2 * columns[head] - 1
        columns[f"{head}_logits"] = logits
    return columns


def make_tallies(num_clips: int, rng: np.random.Generator) -> list[Tally]:
    """Counts as `measure.events` makes them."""
    names = ["transition/gold", "transition/predicted", "transition/matched", "written/updates", "written/readable"]
    parts = ("gold", "predicted", "matched", "early", "late", "duplicate", *(f"matched@{s:g}s" for s in TOLERANCES_S))
    names += [f"{head}/{part}" for head in HEAD_NAMES for part in parts]
    names += [f"state/{what}/{part}" for what in ("frames", "updates", "steps") for part in ("right", "all")]
    counts = rng.integers(0, TURNS, (num_clips, len(names))).tolist()
    delays_s = rng.normal(0, 2, (num_clips, len(HEAD_NAMES), TURNS)).round(1).tolist()
    minutes = {f"{head}/minutes": FRAMES / 120 for head in HEAD_NAMES}
    return [
        Tally(dict(zip(names, of_clip, strict=True)) | minutes, dict(zip(HEAD_NAMES, of_heads, strict=True)))
        for of_clip, of_heads in zip(counts, delays_s, strict=True)
    ]


class OverAll:
    """A measure whose groups are weights of 0 and 1 over all clips, as before."""

    def __init__(self, measure: Measure, num_clips: int, members: Sequence[int] | None = None):
        self.measure, self.num_clips, self.members = measure, num_clips, members

    def of_clips(self, members: np.ndarray) -> "OverAll":
        return OverAll(self.measure, self.num_clips, members)

    def __call__(self, weights: np.ndarray) -> Metrics:
        everyone = np.zeros(self.num_clips)
        everyone[slice(None) if self.members is None else self.members] = weights
        return self.measure(everyone)


class PlainTeacherForced(TeacherForced):
    """The metrics from each position's weight, as before."""

    def __init__(self, columns: dict[str, np.ndarray], thresholds, minutes):
        super().__init__(columns, thresholds, minutes)
        self.columns = columns

    def __call__(self, weights: np.ndarray) -> Metrics:
        metrics: Metrics = {}
        for head in HEAD_NAMES:
            metrics |= plain_decisions(self.decisions[head], head, weights, self.thresholds[head])
            decided = weights[self.decisions[head].clip] * (self.decisions[head].probabilities > self.thresholds[head])
            num_false = float(decided.sum() - decided @ self.decisions[head].positive)
            metrics |= ratios({f"{head}/false_per_minute": (num_false, float(weights @ self.minutes[head]))})
        is_update = self.columns["turn_is_dst"]
        tokens, updates = weights[self.columns["lm_clip"]], weights[self.columns["turn_clip"][is_update]]
        metrics["lm/perplexity"] = float(np.exp(tokens @ self.columns["lm_loss"].astype(np.float64) / tokens.sum()))
        metrics["lm/token_accuracy"] = float(tokens @ self.columns["lm_hit"] / tokens.sum())
        metrics["update/exact_match"] = float(updates @ self.columns["turn_hit"][is_update] / updates.sum())
        return metrics | {"num_updates": float(updates.sum())}


def plain_decisions(decisions: Decisions, head: str, weights: np.ndarray, threshold: float) -> Metrics:
    weight, positive = weights[decisions.clip], decisions.positive
    metrics = {f"num_{head}_positives": float(weight @ positive), f"{head}/threshold": threshold}
    metrics[f"num_{head}_negatives"] = float(weight.sum()) - metrics[f"num_{head}_positives"]
    ends = np.flatnonzero(np.diff(decisions.probabilities, append=-1.0))
    for name, chosen in (("", weight), ("_at_frames", weight * decisions.is_frame)):
        base_rate = float(chosen @ positive) / max(float(chosen.sum()), 1e-12)
        if not 0 < base_rate < 1:
            continue
        found, decided = np.cumsum(chosen * positive)[ends], np.cumsum(chosen)[ends]
        precision = found / np.maximum(decided, 1e-12)
        metrics[f"{head}/average_precision{name}"] = float(np.diff(found, prepend=0.0) @ precision / found[-1])
        metrics[f"{head}/base_rate{name}"] = base_rate
    above = decisions.probabilities > threshold
    found, decided = float(weight[above] @ positive[above]), float(weight[above].sum())
    return metrics | ratios(precision_recall_f1(found, decided, float(weight @ positive)), f"{head}/")


def timed(measure: Measure, clips: Sequence[Clip]) -> tuple[dict, float]:
    started = time.perf_counter()
    found = measured(measure, clips)
    return found, time.perf_counter() - started


def assert_same(one, other, key: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), (key, one.keys() ^ other.keys())
        for name in one:
            assert_same(one[name], other[name], f"{key}/{name}")
    else:
        np.testing.assert_allclose(one, other, rtol=1e-9, err_msg=key)


def measures(num_clips: int, plain: bool) -> dict[str, Measure]:
    rng = np.random.default_rng(0)
    minutes = dict.fromkeys(HEAD_NAMES, np.full(num_clips, FRAMES / 120))
    make = PlainTeacherForced if plain else TeacherForced
    both = {
        "teacher forced": make(make_columns(num_clips, rng), dict.fromkeys(HEAD_NAMES, 0.5), minutes),
        "streamed": Tallies(make_tallies(num_clips, rng)),
    }
    return {name: OverAll(measure, num_clips) for name, measure in both.items()} if plain else both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=10)
    parser.add_argument("--compared", type=int, default=400)
    options = parser.parse_args()
    print(f"| intervals, 500 samples, {options.groups} groups | clips | before, s | now, s | ratio |")
    print("|---|---|---|---|---|")
    clips, before = make_clips(options.compared, options.groups), measures(options.compared, plain=True)
    for name, measure in measures(options.compared, plain=False).items():
        (old, old_s), (new, new_s) = timed(before[name], clips), timed(measure, clips)
        assert_same(old, new)
        print(f"| {name} | {options.compared} | {old_s:.1f} | {new_s:.1f} | {old_s / new_s:.1f} |")
    clips = make_clips(options.clips, options.groups)
    for name, measure in measures(options.clips, plain=False).items():
        print(f"| {name} | {options.clips} | | {timed(measure, clips)[1]:.1f} | |")


if __name__ == "__main__":
    main()
