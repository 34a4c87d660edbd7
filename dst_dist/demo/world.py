"""The generated world: its tasks and their courses.

Steps change at memoryless times and in no fixed order, so neither the time since the last change nor
the text says what comes next: only the picture does.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from dst_dist.data.state import TRANSITIONS

FPS = 2
COLOURS = ("red", "blue", "green", "purple", "orange", "white", "black", "brown")
SHAPES = ("square", "disc", "bar", "ring", "corner", "cross")
NUM_STEPS = (4, 5, 5, 6, 6, 7, 8)


@dataclass(frozen=True)
class Domain:
    """What one dataset folder is about: the words its tasks are made of, its board's tint (RGB).

    `borrowed_colours` maps a status to the one whose colour shows it here, where that is not its own.
    """

    name: str
    prompt: str
    goal_verbs: tuple[str, ...]
    goal_things: tuple[str, ...]
    step_verbs: tuple[str, ...]
    step_objects: tuple[str, ...]
    tint: tuple[int, int, int]
    borrowed_colours: Mapping[str, str] = field(default_factory=dict)


DOMAINS = (
    Domain(
        name="workshop",
        prompt="You watch the work and keep track of its steps.",
        goal_verbs=("Build", "Repair", "Rebuild", "Test"),
        goal_things=("toy car", "water pump", "small robot", "desk fan", "bicycle", "radio"),
        step_verbs=("fit", "turn", "check", "tighten"),
        step_objects=("wheel", "gear", "bolt", "panel", "cable", "spring"),
        tint=(30, 34, 48),
    ),
    Domain(
        name="kitchen",
        prompt="You watch the cooking and keep track of its steps.",
        goal_verbs=("Cook", "Prepare", "Serve", "Plan"),
        goal_things=("soup", "fruit salad", "pasta dish", "birthday cake", "stew", "breakfast"),
        step_verbs=("wash", "fill", "heat", "cover"),
        step_objects=("bowl", "pot", "cup", "plate", "lid", "tray"),
        tint=(52, 40, 30),
    ),
    Domain(
        name="garden",
        prompt="You watch the gardening and keep track of its steps.",
        goal_verbs=("Plant", "Water", "Tidy", "Renew"),
        goal_things=("rose bed", "herb pot", "apple tree", "vegetable patch", "hedge", "lawn"),
        step_verbs=("dig", "rake", "move", "trim"),
        step_objects=("bucket", "hose", "fence", "stone", "basket", "shelf"),
        tint=(26, 46, 30),
    ),
)
NEW_DOMAIN = Domain(
    name="laboratory",
    prompt="You watch the experiment and keep track of its steps.",
    goal_verbs=("Measure", "Analyse", "Dilute", "Compare"),
    goal_things=("water sample", "salt solution", "soil extract", "yeast culture", "crystal", "dye mixture"),
    step_verbs=("shake", "weigh", "label", "rinse"),
    step_objects=("flask", "pipette", "magnet", "funnel", "burner", "scale"),
    tint=(44, 30, 52),
    borrowed_colours={"in_progress": "completed", "completed": "paused", "paused": "in_progress"},
)
"""Left out of the demo recipe, for adapting a model that has learned the others: new words, and its board's
colours mean something else, so that it has to be learned."""


@dataclass(frozen=True)
class StepPlan:
    """A step of a task: its name and the look of its object."""

    name: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Task:
    """A goal and the 4 to 8 steps towards it."""

    goal: str
    steps: tuple[StepPlan, ...]


def draw_task(rng: random.Random, domain: Domain, goals: list[str]) -> Task:
    """A task with one of `goals` and steps put together from the domain's words."""
    words = [(verb, colour, thing) for verb in domain.step_verbs for colour in COLOURS for thing in domain.step_objects]
    chosen = rng.sample(words, rng.choice(NUM_STEPS))
    steps = tuple(
        StepPlan(f"{verb} {colour} {thing}", colour, SHAPES[domain.step_objects.index(thing)])
        for verb, colour, thing in chosen
    )
    return Task(rng.choice(goals), steps)


# What may happen to a step once started, by its status, with how often (relative).
CHANCES = {
    "in_progress": (("complete", 3.0), ("pause", 2.0), ("cancel", 0.9), ("reset", 0.6)),
    "completed": (("reset", 0.2),),
    "paused": (("resume", 3.0), ("cancel", 0.9), ("reset", 0.6)),
    "cancelled": (("reset", 0.6),),
}
START_CHANCE, START_CHANCE_WHILE_BUSY, BUSY = 3.0, 0.3, 2
IN_ORDER = 2.0  # the next step of the task is this much likelier to start than one out of turn
UPDATE_CHANCE = 0.16  # of a frame, whatever came before: a constant hazard cannot be counted out
SECOND_CHANCE = 0.1
SECOND_CHANCE_IN_TRAINING = 0.25  # finding the second of two changes takes the most practice
ERROR_CHANCE = 0.05
QUESTION_CHANCE = 0.05
QUESTIONS = ("open", "done", "thanks")


def _start_weights(statuses: list[str]) -> list[float]:
    """By step, how likely it starts; together they weigh the same however many steps wait."""
    busy = sum(status in ("in_progress", "paused") for status in statuses) >= BUSY
    waiting = [status == "not_started" for status in statuses]
    shares = [0.0 if not waits else 1.0 if any(waiting[:step]) else IN_ORDER for step, waits in enumerate(waiting)]
    total = START_CHANCE_WHILE_BUSY if busy else START_CHANCE
    return [total * share / max(sum(shares), 1.0) for share in shares]


def _draw_transition(rng: random.Random, statuses: list[str], taken: set[int]) -> tuple[int, str]:
    options = [(step, "start", weight) for step, weight in enumerate(_start_weights(statuses)) if weight]
    options += [
        (step, transition, weight)
        for step, status in enumerate(statuses)
        if status != "not_started"
        for transition, weight in CHANCES[status]
    ]
    options = [option for option in options if option[0] not in taken]
    step, transition, _ = rng.choices(options, [weight for *_, weight in options])[0]
    return step, transition


@dataclass(frozen=True)
class Moment:
    """One frame of a video: what changes at it and what it shows.

    `transitions` are (step position, transition), by position; `statuses` those after them.
    `error` says that the error mark is in the picture, `error_starts` that it is new.
    `question` is the kind of user turn after this frame, or None.
    """

    transitions: tuple[tuple[int, str], ...]
    statuses: tuple[str, ...]
    error: bool
    error_starts: bool
    question: str | None


def draw_schedule(
    rng: random.Random, num_steps: int, num_frames: int, frames_per_clip: int, second_chance: float = SECOND_CHANCE
) -> list[Moment]:
    """A video's course, frame by frame.

    Every frame has the same chance of an update, but for the first of each clip: what it shows is the state
    that the clip starts with. Against the opening turn's words alone, changes there are hard to tell.

    Args:
        second_chance: how often an update changes two steps at once.
    """
    statuses, moments, error_left = ["not_started"] * num_steps, [], 0
    for frame in range(num_frames):
        transitions: dict[int, str] = {}
        if frame % frames_per_clip and rng.random() < UPDATE_CHANCE:
            for _ in range(1 + (rng.random() < second_chance)):
                step, transition = _draw_transition(rng, statuses, set(transitions))
                transitions[step] = transition
                statuses[step] = TRANSITIONS[transition][1]
        error_starts = error_left == 0 and rng.random() < ERROR_CHANCE
        error_left = rng.randint(1, 3) if error_starts else max(0, error_left - 1)
        quiet = not transitions and not error_starts
        question = _draw_question(rng) if quiet else None
        moments.append(
            Moment(
                tuple(sorted(transitions.items())),
                tuple(statuses),
                error_starts or error_left > 0,
                error_starts,
                question,
            )
        )
    return moments


def _draw_question(rng: random.Random) -> str | None:
    return rng.choice(QUESTIONS) if rng.random() < QUESTION_CHANCE else None
