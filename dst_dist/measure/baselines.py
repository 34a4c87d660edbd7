"""What can be had without looking: what a model must be better than."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from dst_dist.data.clips import Clip
from dst_dist.data.conversation import arrange
from dst_dist.data.state import TRANSITIONS, Transition, apply_update, format_update, without_not_started
from dst_dist.heads import HEADS, Head
from dst_dist.measure.decisions import Metrics
from dst_dist.measure.timeline import Timeline, is_asked

Rates = Mapping[str, float]
"""By head, how many of the frames are positive."""


def rule_update(state: Mapping[str, str], step_ids: list[str]) -> list[Transition]:
    """The text rule: complete the open step (the last in order), start the next one not started."""
    is_open = [step for step in step_ids if state.get(step) == "in_progress"]
    after = step_ids[step_ids.index(is_open[-1]) + 1 :] if is_open else step_ids
    waiting = [step for step in after if state.get(step, "not_started") == "not_started"]
    completed = [Transition(step, "complete") for step in is_open[-1:]]
    return completed + [Transition(step, "start") for step in waiting[:1]]


def allowed_transitions(state: Mapping[str, str], step_ids: list[str]) -> list[Transition]:
    """Every single transition that the state allows."""
    return [
        Transition(step, name)
        for step in step_ids
        for name, (allowed, _) in TRANSITIONS.items()
        if state.get(step, "not_started") in allowed
    ]


def text_baselines(clips: Iterable[Clip]) -> dict[str, Metrics]:
    """What can be had of the updates without a picture, at the gold updates and with the gold state.

    `chance` draws one allowed transition at random, `rule` is `rule_update`. Empty without updates.
    """
    hits: list[tuple[float, float]] = []
    for clip in clips:
        state, step_ids = dict(clip.initial_state), [step.id for step in clip.steps]
        for turn in (turn for group in arrange(clip, "continuous", "last") for turn in group.turns):
            if turn.role != "DST_UPDATE":
                continue
            by_rule = format_update(rule_update(state, step_ids)) == format_update(turn.transitions)
            allowed = [(change,) for change in allowed_transitions(state, step_ids)]
            by_chance = 1 / len(allowed) if turn.transitions in allowed else 0.0
            hits.append((by_chance, float(by_rule)))
            state, _ = apply_update(state, turn.transitions)
    if not hits:
        return {}
    chance, rule = np.mean(hits, axis=0)
    return {"chance": {"update/exact_match": float(chance)}, "rule": {"update/exact_match": float(rule)}}


def decision_baselines(metrics: Metrics, head: str, minutes: float, training_rate: float | None) -> dict[str, Metrics]:
    """One head's scores of deciding never, and at random as often as in training; expected values, not draws.

    Args:
        metrics: the model's, for the counts of the split.
        minutes: of the split, those in which the head is asked.
        training_rate: share of positives in training; None where it is not known.
    """
    positives, negatives = metrics[f"num_{head}_positives"], metrics[f"num_{head}_negatives"]
    if not positives + negatives:
        return {}
    base_rate = positives / (positives + negatives)
    never = {f"{head}/recall": 0.0, f"{head}/f1": 0.0} if positives else {}
    at_random = {
        f"{head}/average_precision{at}": metrics[f"{head}/base_rate{at}"]
        for at in ("", "_at_frames")
        if f"{head}/base_rate{at}" in metrics
    }
    if training_rate is not None:
        found, decided = base_rate * training_rate, training_rate
        shares = {"precision": (found, decided), "recall": (found, base_rate), "f1": (2 * found, decided + base_rate)}
        at_random |= {f"{head}/{name}": part / whole for name, (part, whole) in shares.items() if whole}
        at_random[f"{head}/false_per_minute"] = training_rate * negatives / minutes
    return {"never": never | {f"{head}/false_per_minute": 0.0}} | ({"chance": at_random} if at_random else {})


def baseline_timelines(
    clips: Sequence[Clip], gold: Sequence[Timeline], training_rates: Rates | None
) -> dict[str, list[Timeline]]:
    """What streams would be that do not look: by name, one timeline for each clip.

    `never` and `always` write at no and at every frame, `periodic` as often as is true but evenly, `rule` as often as
    is true at random frames, all with the text rule's update; `random` writes as often as in training, at random frames,
    any update that the state allows. None has anything to say.
    """
    true_rates = {head.name: _true_rate(head, clips, gold) for head in HEADS}
    makers: dict[str, tuple[Callable, Callable]] = {
        "never": (lambda head, frame, rng: False, _by_rule),
        "always": (lambda head, frame, rng: True, _by_rule),
        "periodic": (
            lambda head, frame, rng: int((frame + 1) * true_rates[head]) > int(frame * true_rates[head]),
            _by_rule,
        ),
        "rule": (lambda head, frame, rng: rng.random() < true_rates[head], _by_rule),
    }
    if training_rates is not None:
        makers["random"] = (lambda head, frame, rng: rng.random() < training_rates[head], _by_chance)
    return {
        name: [_timeline(clip, *rules, random.Random(f"{name}/{clip.id}")) for clip in clips]
        for name, rules in makers.items()
    }


def _true_rate(head: Head, clips: Sequence[Clip], gold: Sequence[Timeline]) -> float:
    """The share of the frames at which the head is asked that have an event; 0 where it is never asked."""
    asked = [told for clip, told in zip(clips, gold, strict=True) if is_asked(head, clip)]
    num_frames = sum(len(told.states) for told in asked)
    return sum(len(getattr(told, head.events)) for told in asked) / num_frames if num_frames else 0.0


def _by_rule(state: Mapping[str, str], step_ids: list[str], rng: random.Random) -> list[Transition]:
    return rule_update(state, step_ids)


def _by_chance(state: Mapping[str, str], step_ids: list[str], rng: random.Random) -> list[Transition]:
    return [rng.choice(allowed_transitions(state, step_ids))]


def _timeline(clip: Clip, decides: Callable, update: Callable, rng: random.Random) -> Timeline:
    timeline, state, step_ids = Timeline(), dict(clip.initial_state), [step.id for step in clip.steps]
    for frame in range(clip.end_frame - clip.start_frame):
        time_s = (clip.start_frame + frame) / clip.fps
        if clip.steps and decides("dst_update", frame, rng):
            transitions = tuple(update(state, step_ids, rng))
            state, _ = apply_update(state, transitions)
            # The rule has nothing to say once all is done.
            timeline.updates += [(time_s, transitions)] if transitions else []
        if decides("speaking", frame, rng):
            timeline.replies.append((time_s, ""))
        timeline.states.append(without_not_started(state))
    return timeline
