"""Baselines: scores that are reached without looking at the video."""

import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dst_dist.data.clips import Clip
from dst_dist.data.conversation import arrange
from dst_dist.data.state import TRANSITIONS, Transition, apply_update, without_not_started
from dst_dist.heads import HEAD_NAMES, HEADS, Head
from dst_dist.measure.decisions import Metrics, precision_recall_f1, ratios
from dst_dist.measure.timeline import Timeline, is_asked

Rates = Mapping[str, float]  # by head, the share of positives


def rule_update(state: Mapping[str, str], step_ids: list[str]) -> list[Transition]:
    """Return the text rule's update: complete the last open step, start the next one that is not started."""
    is_open = [step for step in step_ids if state.get(step) == "in_progress"]
    after = step_ids[step_ids.index(is_open[-1]) + 1 :] if is_open else step_ids
    waiting = [step for step in after if state.get(step, "not_started") == "not_started"]
    completed = [Transition(step, "complete") for step in is_open[-1:]]
    return completed + [Transition(step, "start") for step in waiting[:1]]


def allowed_transitions(state: Mapping[str, str], step_ids: list[str]) -> list[Transition]:
    """Return every single transition that the state allows."""
    return [
        Transition(step, name)
        for step in step_ids
        for name, (allowed, _) in TRANSITIONS.items()
        if state.get(step, "not_started") in allowed
    ]


def text_baselines(clips: Iterable[Clip]) -> dict[str, Metrics]:
    """Return exact matches of updates written from the gold state alone, at the gold updates; empty without updates.

    `chance` draws one allowed transition at random (the expected value, no draw), `rule` is `rule_update`.
    """
    hits: list[tuple[float, float]] = []
    for clip in clips:
        state, step_ids = dict(clip.initial_state), [step.id for step in clip.steps]
        groups = arrange(clip, "continuous", "last")
        for turn in (turn for group in groups for turn in group.turns if turn.role == "DST_UPDATE"):
            by_rule = tuple(rule_update(state, step_ids)) == turn.transitions
            allowed = [(change,) for change in allowed_transitions(state, step_ids)]
            by_chance = 1 / len(allowed) if turn.transitions in allowed else 0.0
            hits.append((by_chance, float(by_rule)))
            state, _ = apply_update(state, turn.transitions)
    if not hits:
        return {}
    return {
        name: {"update/exact_match": float(share)}
        for name, share in zip(("chance", "rule"), np.mean(hits, axis=0), strict=True)
    }


def decision_baselines(metrics: Metrics, head: str, minutes: float, training_rate: float | None) -> dict[str, Metrics]:
    """Return one head's expected scores of never deciding and of deciding at random as often as in training.

    Args:
        metrics: the model's, for the counts of the split.
        minutes: of video in which the head decides.
        training_rate: share of positives in training; None where it is not known.
    """
    positives, negatives = metrics[f"num_{head}_positives"], metrics[f"num_{head}_negatives"]
    if not positives + negatives:
        return {}
    never = ratios({"recall": (0.0, positives), "f1": (0.0, positives)}, f"{head}/")
    chance = {
        f"{head}/average_precision{at}": metrics[f"{head}/base_rate{at}"]
        for at in ("", "_at_frames")
        if f"{head}/base_rate{at}" in metrics
    }
    if training_rate is not None:
        base_rate = positives / (positives + negatives)
        chance |= ratios(precision_recall_f1(base_rate * training_rate, training_rate, base_rate), f"{head}/")
        chance[f"{head}/false_per_minute"] = training_rate * negatives / minutes
    return {"never": never | {f"{head}/false_per_minute": 0.0}} | ({"chance": chance} if chance else {})


def baseline_timelines(
    clips: Sequence[Clip], gold: Sequence[Timeline], training_rates: Rates | None
) -> dict[str, list[Timeline]]:
    """Return streams that ignore the video: by baseline, one timeline for each clip.

    `never` and `always` write at no and at every frame, `periodic` as often as the gold timelines but evenly spaced,
    `rule` as often as they do at random frames; all four write the text rule's updates. `random` writes as often as in
    training, at random frames, any transition that the state allows. Their replies are empty.
    """
    true_rates = {head.name: _true_rate(head, clips, gold) for head in HEADS}
    evenly: dict[str, Rates] = {
        "never": dict.fromkeys(HEAD_NAMES, 0.0),
        "always": dict.fromkeys(HEAD_NAMES, 1.0),
        "periodic": true_rates,
    }
    at_random: dict[str, Rates] = {"rule": true_rates} | ({"random": training_rates} if training_rates else {})
    return {
        name: [_timeline(clip, rates, name in evenly, name == "random", f"{name}/{clip.id}") for clip in clips]
        for name, rates in (evenly | at_random).items()
    }


def _true_rate(head: Head, clips: Sequence[Clip], gold: Sequence[Timeline]) -> float:
    """Return the share of frames with an event among the frames at which the head decides; 0 if there are none."""
    timelines = [timeline for clip, timeline in zip(clips, gold, strict=True) if is_asked(head, clip)]
    num_frames = sum(len(timeline.states) for timeline in timelines)
    return sum(len(getattr(timeline, head.events)) for timeline in timelines) / num_frames if num_frames else 0.0


def _timeline(clip: Clip, rates: Rates, is_even: bool, any_transition: bool, seed: str) -> Timeline:
    """Return a timeline at these rates: evenly spaced or at random frames, any transition or the rule's update."""
    rng, timeline = random.Random(seed), Timeline()
    state, step_ids = dict(clip.initial_state), [step.id for step in clip.steps]

    def decides(head: str, frame: int) -> bool:
        rate = rates[head]
        return int((frame + 1) * rate) > int(frame * rate) if is_even else rng.random() < rate

    for frame in range(clip.end_frame - clip.start_frame):
        time_s = (clip.start_frame + frame) / clip.fps
        if clip.steps and decides("dst_update", frame):
            allowed = allowed_transitions(state, step_ids)
            transitions = tuple([rng.choice(allowed)] if any_transition else rule_update(state, step_ids))
            state, _ = apply_update(state, transitions)
            # The rule's update is empty once all steps are done.
            timeline.updates += [(time_s, transitions)] if transitions else []
        if decides("speaking", frame):
            timeline.replies.append((time_s, ""))
        timeline.states.append(without_not_started(state))
    return timeline
