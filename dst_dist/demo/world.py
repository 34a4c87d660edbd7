"""The generated world: its tasks, and how their steps change over time.

Steps change at memoryless times and in no fixed order, so neither the time since the last change nor
the text says what comes next: only the picture does.
"""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from dst_dist.data.state import TRANSITIONS

FPS = 2
COLOURS = ("red", "blue", "green", "purple", "orange", "white", "black", "brown")
SHAPES = ("square", "disc", "bar", "ring", "corner", "cross")


@dataclass(frozen=True)
class Domain:
    """The subject of one dataset folder: the words its tasks are made of, and its board's tint (RGB).

    `borrowed_colours` maps a status to the status whose colour shows it here, where that is not its own.
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
"""Not in the demo recipe; for adapting a trained model. Its words are new and its colours mean other statuses."""


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


@dataclass(frozen=True)
class Rules:
    """Chances and sizes by which the tasks and schedules of a split are drawn.

    Attributes:
        num_steps: numbers of steps to draw from; one that is there twice is twice as likely.
        update_chance: of an update at a frame.
        second_chance: that an update changes two steps at once.
    """

    num_steps: tuple[int, ...]
    update_chance: float
    second_chance: float


@dataclass(frozen=True)
class World:
    """The looks that objects have, and the rules of its splits.

    Attributes:
        is_object_unique: whether an object, by colour and shape, belongs to one step of a task at most.
        training: rules by which what is hard to learn comes more often than in validation and test.
    """

    name: str
    colours: tuple[str, ...]
    shapes: tuple[str, ...]
    is_object_unique: bool
    training: Rules
    elsewhere: Rules


SLOTS = World(
    name="slots",
    colours=COLOURS,
    shapes=SHAPES,
    is_object_unique=False,
    training=Rules((4, 5, 5, 6, 6, 7, 8), update_chance=0.16, second_chance=0.25),
    elsewhere=Rules((4, 5, 5, 6, 6, 7, 8), update_chance=0.16, second_chance=0.1),
)
OBJECTS = World(
    name="objects",
    colours=COLOURS[:6],
    shapes=("square", "bar", "ring", "corner"),
    is_object_unique=True,
    training=Rules((4, 5, 6), update_chance=0.3, second_chance=0.0),
    elsewhere=Rules((4, 5, 6), update_chance=0.16, second_chance=0.0),
)
WORLDS = {world.name: world for world in (SLOTS, OBJECTS)}


def draw_task(rng: random.Random, domain: Domain, goals: list[str], world: World, rules: Rules) -> Task:
    """Return a task with one of `goals` and steps put together from the domain's words."""
    shapes = dict(zip(domain.step_objects, SHAPES, strict=True))
    things = [thing for thing in domain.step_objects if shapes[thing] in world.shapes]
    words = [(verb, colour, thing) for verb in domain.step_verbs for colour in world.colours for thing in things]
    num_steps = rng.choice(rules.num_steps)
    chosen = rng.sample(words, num_steps)
    while world.is_object_unique and len({(colour, thing) for _, colour, thing in chosen}) < num_steps:
        chosen = rng.sample(words, num_steps)
    steps = tuple(StepPlan(f"{verb} {colour} {thing}", colour, shapes[thing]) for verb, colour, thing in chosen)
    return Task(rng.choice(goals), steps)


CHANGE_WEIGHTS = {
    "in_progress": (("complete", 3.0), ("pause", 2.0), ("cancel", 0.9), ("reset", 0.6)),
    "completed": (("reset", 0.2),),
    "paused": (("resume", 3.0), ("cancel", 0.9), ("reset", 0.6)),
    "cancelled": (("reset", 0.6),),
}
"""Status of a started step -> what may happen to it next, and how often, relative to the rest."""
START_WEIGHT, START_WEIGHT_WHILE_BUSY, BUSY = 3.0, 0.3, 2
"""Weight of starting a step among all changes, its weight while BUSY steps are in progress or paused, and BUSY."""
NEXT_STEP_WEIGHT = 2.0
"""The first step that waits is this much likelier to start than another one."""
ERROR_CHANCE = 0.05
QUESTION_CHANCE = 0.05
QUESTIONS = ("open", "done", "thanks")


def _start_weights(statuses: list[str]) -> list[float]:
    """Return how likely each step starts; the sum does not depend on how many steps wait."""
    is_busy = sum(status in ("in_progress", "paused") for status in statuses) >= BUSY
    shares = [float(status == "not_started") for status in statuses]
    if any(shares):
        shares[shares.index(1.0)] = NEXT_STEP_WEIGHT
    total = START_WEIGHT_WHILE_BUSY if is_busy else START_WEIGHT
    return [total * share / max(sum(shares), 1.0) for share in shares]


def _draw_transition(rng: random.Random, statuses: list[str], taken: Collection[int]) -> tuple[int, str]:
    """Return (step position, transition) for a step that is not in `taken`."""
    options = [(step, "start", weight) for step, weight in enumerate(_start_weights(statuses)) if weight]
    options += [
        (step, transition, weight)
        for step, status in enumerate(statuses)
        for transition, weight in CHANGE_WEIGHTS.get(status, ())
    ]
    options = [option for option in options if option[0] not in taken]
    step, transition, _ = rng.choices(options, [weight for *_, weight in options])[0]
    return step, transition


@dataclass(frozen=True)
class Moment:
    """One frame of a video: what changes at it and what it shows.

    Attributes:
        transitions: (step position, transition), in the order of steps.
        statuses: of every step, after the transitions.
        error: whether the picture has the error mark.
        error_starts: whether the error mark is new.
        question: the kind of user turn after this frame, or None.
    """

    transitions: tuple[tuple[int, str], ...]
    statuses: tuple[str, ...]
    error: bool
    error_starts: bool
    question: str | None


def draw_schedule(
    rng: random.Random, num_steps: int, num_frames: int, frames_per_clip: int, rules: Rules = SLOTS.elsewhere
) -> list[Moment]:
    """Return a video's moments, frame by frame.

    Every frame has the same chance of an update, whatever came before: the time since the last one tells nothing. Only
    the first of each clip has none and shows the state that the clip starts with: with nothing but the opening text
    to compare, changes there would be hard to tell.
    """
    statuses, moments, error_frames_left = ["not_started"] * num_steps, [], 0
    for frame in range(num_frames):
        transitions: dict[int, str] = {}
        if frame % frames_per_clip and rng.random() < rules.update_chance:
            for _ in range(1 + (rng.random() < rules.second_chance)):
                step, transition = _draw_transition(rng, statuses, transitions)
                transitions[step] = transition
                statuses[step] = TRANSITIONS[transition][1]
        error_starts = error_frames_left == 0 and rng.random() < ERROR_CHANCE
        error_frames_left = rng.randint(1, 3) if error_starts else max(0, error_frames_left - 1)
        is_quiet = not transitions and not error_starts
        question = rng.choice(QUESTIONS) if is_quiet and rng.random() < QUESTION_CHANCE else None
        changes = tuple(sorted(transitions.items()))
        moments.append(Moment(changes, tuple(statuses), error_frames_left > 0, error_starts, question))
    return moments
