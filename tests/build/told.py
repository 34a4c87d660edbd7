"""The demo's videos as raw dialogs of ProAssist's form: what changes is written by annotators or only said."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dst_dist.data.state import NOT_STARTED, TRANSITIONS
from dst_dist.demo.dialog import Video
from dst_dist.demo.world import FPS, Moment, StepPlan
from tests.build.raw import turn

JITTER_S = 0.5
"""Largest error of a time."""
MISSING, SPOKEN, TOLD, CALLED_OTHERWISE = 0.05, 0.25, 0.5, 0.2
"""Shares: lines left out, steps without lines, starts that are told although a line is there, things by other words."""
VERBS = {
    "fit": ("attach", "mount", "install"),
    "turn": ("rotate", "twist"),
    "check": ("inspect", "test"),
    "tighten": ("screw tight",),
    "wash": ("rinse", "clean"),
    "fill": ("pour into", "fill up"),
    "heat": ("warm", "heat up"),
    "cover": ("close", "put a cover on"),
    "dig": ("dig out", "bury"),
    "rake": ("rake over", "comb"),
    "move": ("shift", "carry"),
    "trim": ("cut", "clip"),
}
THINGS = {
    "gear": "cog",
    "panel": "board",
    "cable": "cord",
    "spring": "coil",
    "bowl": "basin",
    "pot": "saucepan",
    "cup": "mug",
    "plate": "dish",
    "bucket": "pail",
    "hose": "pipe",
    "stone": "rock",
    "basket": "crate",
    "shelf": "rack",
}
WRITTEN = ("{verb} {thing}", "The user starts to {verb} the {thing}.", "{verb} the {thing}")
INSTRUCTIONS = ("{Verb} the {thing}.", "Now {verb} the {thing}, please.", "Go ahead and {verb} the {thing}.")
SAID = {
    "complete": ("The {thing} is done.", "I'm done with the {thing}."),
    "pause": ("I'll leave the {thing} for now.", "Let's set the {thing} aside."),
    "resume": ("Back to the {thing}.", "I'm going back to the {thing}."),
    "cancel": ("I give up on the {thing}.", "Forget the {thing}."),
}
UNDO = "That's wrong, undo the {thing}."

Change = tuple[float, int, str]
"""Time in seconds, place of the step, transition."""


def carried(moments: Sequence[Moment]) -> list[Moment]:
    """Return the moments without what such a dialog does not tell: a reset of a step that is not completed.

    What such a reset would have made possible is left out too. A moment that had a question has none.
    """
    statuses = [NOT_STARTED] * len(moments[0].statuses)
    kept = []
    for moment in moments:
        changes = []
        for step, transition in moment.transitions:
            allowed, after = TRANSITIONS[transition]
            if statuses[step] in ({"completed"} if transition == "reset" else allowed):
                statuses[step] = after
                changes.append((step, transition))
        kept.append(replace(moment, transitions=tuple(changes), statuses=tuple(statuses), question=None))
    return kept


def changes_of(moments: Sequence[Moment]) -> list[Change]:
    """Return the changes of a video, in order of time."""
    return [(frame / FPS, *change) for frame, moment in enumerate(moments) for change in moment.transitions]


@dataclass
class Teller:
    """A dialog and its annotations under way."""

    video: Video
    changes: Sequence[Change]
    random: random.Random
    lines: list[str] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)

    @property
    def end(self) -> float:
        return len(self.video.moments) / FPS

    def near(self, time: float) -> float:
        return max(0.0, round(time + self.random.uniform(-JITTER_S, JITTER_S), 1))

    def words(self, form: str, step: StepPlan) -> str:
        verb, colour, thing = step.name.split(" ")
        verb = self.random.choice((verb, *VERBS[verb]))
        if self.random.random() < CALLED_OTHERWISE:
            thing = THINGS.get(thing, thing)
        return form.format(verb=verb, Verb=verb.capitalize(), thing=f"{colour} {thing}")

    def say(self, time: float, role: str, text: str, labels: str | None = None) -> None:
        self.turns.append(turn(role, min(self.near(time), self.end - 0.5), text, labels))

    def say_one(self, time: float, role: str, forms: Sequence[str], step: StepPlan, labels: str | None = None) -> None:
        self.say(time, role, self.words(self.random.choice(forms), step), labels)

    def write(self, start: float, end: float, step: StepPlan) -> None:
        if self.random.random() >= MISSING:
            start, end = sorted((self.near(start), self.near(end)))
            self.lines.append(f"[{start:.1f}s-{end:.1f}s] {self.words(self.random.choice(WRITTEN), step)}")


def tell(video: Video, seed: int) -> dict[str, Any]:
    """Return a raw video with one dialog about the video's changes; `carried` has been applied to its moments."""
    changes = changes_of(video.moments)
    teller = Teller(video, changes, random.Random(f"{video.uid} {seed}"))
    goal = video.task.goal
    teller.turns.append(turn("user", 0.5, f"I want to {goal[0].lower()}{goal[1:]}."))
    own: dict[int, list[Change]] = defaultdict(list)
    for change in changes:
        own[change[1]].append(change)
    spoken = {step for step in own if teller.random.random() < SPOKEN}
    for step, its_changes in own.items():
        _tell_step(teller, step, its_changes, spoken)
    _question(teller, video.task.steps)
    teller.turns.append(turn("user", teller.end - 0.5, "Thank you."))
    steps = [f"{number}. {step.name[0].upper()}{step.name[1:]}." for number, step in enumerate(video.task.steps, 1)]
    return {
        "video_uid": video.uid,
        "inferred_goal": goal,
        "inferred_knowledge": "\n".join([goal, *steps]),
        "conversations": [{"conversation": sorted(teller.turns, key=lambda turn: turn["time"]), "user_type": "talk"}],
        "parsed_video_anns": {
            "dataset": video.folder,
            "all_step_descriptions": "\n".join(sorted(teller.lines, key=lambda line: float(line[1 : line.index("s")]))),
            "duration": teller.end,
            "video_start_time": 0.0,
        },
    }


def _tell_step(teller: Teller, place: int, changes: Sequence[Change], spoken: set[int]) -> None:
    """Write a line for each stretch of work on a step, or say when it begins and ends; say the rest in any case."""
    step, is_spoken = teller.video.task.steps[place], place in spoken
    ends = [time for time, *_ in changes[1:]] + [teller.end + 2]
    for (time, _, transition), end in zip(changes, ends, strict=True):
        if transition in ("start", "resume") and not is_spoken:
            teller.write(time, end, step)
        if transition == "start" and (is_spoken or teller.random.random() < TOLD):
            _instruct(teller, time, place, spoken)
        if transition == "reset":
            teller.say_one(time, "assistant", (UNDO,), step, "initiative|correction")
        needs_words = transition == "cancel" or (transition == "pause" and _is_left(teller, place, time))
        if transition in SAID and (is_spoken or needs_words):
            teller.say_one(time, "user", SAID[transition], step)


def _instruct(teller: Teller, time: float, place: int, spoken: set[int]) -> None:
    """Tell a step to begin; what goes on meanwhile is named if nothing but words tells of it."""
    going_on = [step for step in spoken - {place} if _is_under_way(teller.changes, step, time)]
    steps = teller.video.task.steps
    text = teller.words(teller.random.choice(INSTRUCTIONS), steps[place])
    if going_on:
        text = teller.words("While you {verb} the {thing}, ", steps[going_on[0]]) + text[0].lower() + text[1:]
    teller.say(time, "assistant", text)


def _is_under_way(changes: Sequence[Change], place: int, time: float) -> bool:
    before = [transition for at, step, transition in changes if step == place and at < time]
    return bool(before) and before[-1] in ("start", "resume")


def _is_left(teller: Teller, place: int, time: float) -> bool:
    """Return whether only words can say that a step was broken off: it is not taken up, or nothing else is done."""
    after = [change for change in teller.changes if change[0] > time]
    again = next((at for at, step, transition in after if step == place and transition == "resume"), None)
    others = [at for at, step, transition in after if step != place and transition in ("start", "resume")]
    return again is None or not any(at < again - 1 for at in others) or teller.random.random() < TOLD


def _question(teller: Teller, steps: Sequence[StepPlan]) -> None:
    """Ask about a step at some time, which begins nothing."""
    step, time = teller.random.choice(steps), teller.random.uniform(2, teller.end - 5)
    teller.say_one(time, "user", ("When do I get to the {thing}?",), step)
    teller.say_one(time + 1, "assistant", ("The {thing} will come a bit later.",), step, "responsive|info_sharing")
