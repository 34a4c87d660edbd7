"""Generated raw dialogs with their true transitions: steps out of order, broken off, undone, given up, only told."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.build.raw import turn, video
from tests.build.scoring import Transition
from tests.build.tasks import Wording

JITTER_S = 0.5
MISSING = 0.05
NOTHING = ("The user looks around.", "walks to the table", "The user talks to somebody.", "checks the phone screen")
CALLS = ("Sorry, my phone is ringing, one moment.", "Hold on, someone is at the door.", "I need a short break.")
BACKS = ("Okay, I'm back.", "All right, let's continue.")
FORMS = ("[{:.1f}s-{:.1f}s] {}", "[{:.1f}s - {:.1f}s] {}", "[{:.1f}-{:.1f}] {}")


@dataclass
class World:
    """A dialog under way: the clock in seconds, lines, turns, true transitions, and each text's true step."""

    steps: Sequence[Wording]
    random: random.Random
    form: str
    clock: float = 5.0
    lines: list[str] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    gold: list[Transition] = field(default_factory=list)
    truth: dict[str, int] = field(default_factory=dict)

    def change(self, step: int, transition: str, time: float | None = None) -> None:
        self.gold.append((self.clock if time is None else time, f"S{step + 1}", transition))

    def say(self, role: str, text: str, step: int | None = None, labels: str | None = None) -> None:
        time = round(self.clock + self.random.uniform(-JITTER_S, JITTER_S), 1)
        self.turns.append(turn(role, max(0.0, time), text, labels))
        if step is not None:
            self.truth[text] = step

    def line(self, start: float, end: float, text: str, step: int | None) -> None:
        if self.random.random() < MISSING:
            return
        start, end = (time + self.random.uniform(-JITTER_S, JITTER_S) for time in (start, end))
        self.lines.append(self.form.format(max(0.0, start), max(start, end), text))
        if step is not None:
            self.truth[text] = step

    def wait(self, low: float, high: float) -> None:
        self.clock += self.random.uniform(low, high)


def generate(goal: str, steps: Sequence[Wording], seed: int) -> tuple[dict[str, Any], list[Transition], dict[str, int]]:
    """Return a raw video with one dialog, its true transitions in order of time, and the true step of each text."""
    world = World(steps, random.Random(f"{goal} {seed}"), "")
    world.form = world.random.choice(FORMS)
    world.say("user", f"I want to do this: {goal.lower()}.", labels="")
    order = _order(steps, world.random)
    while order:
        _do(world, order.pop(0), order)
        if world.random.random() < 0.15:
            world.wait(1.5, 3)
            start = world.clock
            world.wait(2, 5)
            world.line(start, world.clock, world.random.choice(NOTHING), None)
        world.wait(1.5, 5)
    knowledge = "\n".join([goal, *(f"{number}. {step.name}" for number, step in enumerate(steps, start=1))])
    raw = video(
        *sorted(world.turns, key=lambda turn: turn["time"]),
        video_uid=f"{goal.split()[-1].lower()}-{seed}",
        inferred_goal=goal,
        inferred_knowledge=knowledge,
        annotations={"all_step_descriptions": "\n".join(world.lines), "duration": world.clock + 5},
    )
    return raw, sorted(world.gold), world.truth


def _order(steps: Sequence[Wording], rng: random.Random) -> list[int]:
    """Return the steps that are done: a third moved to another place, sometimes one left out."""
    order = list(range(len(steps)))
    for step in rng.sample(order, round(len(steps) / 3)):
        order.remove(step)
        order.insert(rng.randrange(len(order) + 1), step)
    if rng.random() < 0.3:
        order.remove(rng.choice(order))
    # Nothing tells steps of one name apart but their order.
    for name in {step.name for step in steps}:
        places = [place for place, step in enumerate(order) if steps[step].name == name]
        for place, step in zip(places, sorted(order[place] for place in places), strict=True):
            order[place] = step
    return order


def _do(world: World, step: int, later: list[int]) -> None:
    """Do a step in one of several ways, each with written or spoken evidence of every transition."""
    ways = {"plain": 10, "spoken": 3, "broken off": 2, "called away": 2, "undone": 2, "given up": 1, "alongside": 1}
    way = world.random.choices(list(ways), list(ways.values()))[0]
    if way in ("broken off", "alongside") and not later:
        way = "plain"
    if way == "spoken":
        return _spoken(world, step)
    if world.random.random() < 0.7:
        world.say("assistant", world.random.choice(world.steps[step].told), step)
    world.change(step, "start")
    _work(world, step)
    if world.random.random() < 0.2 and later:
        _question(world, world.random.choice(later))
    {
        "plain": lambda: world.change(step, "complete"),
        "broken off": lambda: _broken_off(world, step, later),
        "called away": lambda: _called_away(world, step),
        "undone": lambda: _undone(world, step),
        "given up": lambda: _given_up(world, step),
        "alongside": lambda: _alongside(world, step, later),
    }[way]()


def _work(world: World, step: int) -> None:
    start = world.clock
    world.wait(6, 16)
    world.line(start, world.clock, world.random.choice(world.steps[step].written), step)


def _question(world: World, step: int) -> None:
    now, world.clock = world.clock, world.clock - 3
    question = f"When do I get to {world.steps[step].thing}?"
    answer = f"{world.steps[step].thing.capitalize()} will come a bit later."
    world.say("user", question, step, "")
    world.say("assistant", answer, step, "responsive|info_sharing")
    world.clock = now


def _spoken(world: World, step: int) -> None:
    world.say("assistant", world.random.choice(world.steps[step].told), step)
    world.change(step, "start")
    world.wait(6, 14)
    world.say("user", world.random.choice(("That's done.", "Okay, I'm done with that.", "Finished!")), None, "")
    world.change(step, "complete")


def _broken_off(world: World, step: int, later: list[int]) -> None:
    """Do another step in between."""
    world.change(step, "pause")
    world.wait(1, 2)
    other = later.pop(0)
    world.change(other, "start")
    _work(world, other)
    world.change(other, "complete")
    world.wait(1, 2)
    world.change(step, "resume")
    _work(world, step)
    world.change(step, "complete")


def _called_away(world: World, step: int) -> None:
    world.change(step, "pause")
    world.say("user", world.random.choice(CALLS), None, "")
    world.wait(8, 20)
    world.say("user", world.random.choice(BACKS), None, "")
    world.wait(0.5, 1.5)
    world.change(step, "resume")
    _work(world, step)
    world.change(step, "complete")


def _undone(world: World, step: int) -> None:
    world.change(step, "complete")
    world.wait(1.5, 3)
    correction = f"That's wrong, undo {world.steps[step].thing} and do it again."
    world.say("assistant", correction, step, "initiative|correction")
    world.change(step, "reset")
    world.wait(4, 8)
    world.change(step, "start")
    _work(world, step)
    world.change(step, "complete")


def _given_up(world: World, step: int) -> None:
    world.wait(1.5, 3)
    world.say("user", f"I give up on {world.steps[step].thing}.", step, "")
    world.change(step, "cancel")


def _alongside(world: World, step: int, later: list[int]) -> None:
    """Go on by itself while another step is done."""
    other = later.pop(0)
    told = world.steps[other].told[0]
    clause, rest = f"While {world.steps[step].going_on}", f"{told[0].lower()}{told[1:]}"
    world.say("assistant", f"{clause}, {rest}", step)
    world.truth[world.steps[step].going_on], world.truth[rest] = step, other
    world.wait(0.5, 1)
    world.change(other, "start")
    _work(world, other)
    world.change(other, "complete")
    world.wait(0.5, 1)
    _work(world, step)
    world.change(step, "complete")


def knowing(truth: dict[str, int], names: Sequence[str]):
    """Return a similarity that knows the true step of every text: the ceiling of any alignment."""

    def similarity(texts: Sequence[str], steps: Sequence[str]) -> np.ndarray:
        scores = np.zeros((len(texts), len(steps)))
        columns = [column for column, name in enumerate(steps) if name in names]
        for row, text in enumerate(texts):
            if text in truth:
                scores[row, columns[truth[text]]] = 1.0
        return scores

    return similarity
