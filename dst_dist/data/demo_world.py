"""The generated world: tasks, their schedules, the drawn frames and the dialogs.

A video shows a board of nine cells. Cell k belongs to step k+1 and shows that step's status: an
empty frame (not started), the step's object loose on a yellow plate (in progress), the object in
place on a green plate (completed), two blue bars (paused) or a red cross (cancelled). The ninth
cell now and then shows an error mark. Steps change at memoryless times and in no fixed order, so
neither the time since the last change nor the text says what comes next: only the picture does.
"""

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

FRAME_SIZE = 48
FPS = 2
CELL, PLATE, MARGIN = 16, 12, 4
STATUS_COLOURS = {
    "not_started": (70, 70, 70),
    "in_progress": (240, 210, 40),
    "completed": (50, 210, 70),
    "paused": (60, 110, 250),
    "cancelled": (230, 50, 50),
}
OBJECT_COLOURS = {
    "red": (200, 30, 30),
    "blue": (40, 60, 200),
    "green": (20, 110, 40),
    "purple": (140, 40, 170),
    "orange": (240, 130, 20),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
    "brown": (110, 70, 30),
}
SHAPES = ("square", "disc", "bar", "ring", "corner", "cross")
ERROR_COLOUR = (255, 0, 255)


@dataclass(frozen=True)
class Domain:
    """What one dataset folder is about: the words its tasks are made of, its board's tint (RGB)."""

    name: str
    prompt: str
    goal_verbs: tuple[str, ...]
    goal_things: tuple[str, ...]
    step_verbs: tuple[str, ...]
    step_objects: tuple[str, ...]
    tint: tuple[int, int, int]


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
    words = [
        (verb, colour, thing)
        for verb in domain.step_verbs
        for colour in OBJECT_COLOURS
        for thing in domain.step_objects
    ]
    chosen = rng.sample(words, rng.choice(NUM_STEPS))
    steps = tuple(
        StepPlan(f"{verb} {colour} {thing}", colour, SHAPES[domain.step_objects.index(thing)])
        for verb, colour, thing in chosen
    )
    return Task(rng.choice(goals), steps)


# What may happen to a step, by its status, with how often (relative). `AFTER` is what comes out.
CHANCES = {
    "not_started": (("start", 1.0),),
    "in_progress": (("complete", 3.0), ("pause", 2.0), ("cancel", 1.0), ("reset", 0.8)),
    "completed": (("reset", 0.35),),
    "paused": (("resume", 3.0), ("cancel", 1.0), ("reset", 0.8)),
    "cancelled": (("reset", 0.6),),
}
AFTER = {
    "start": "in_progress",
    "complete": "completed",
    "pause": "paused",
    "resume": "in_progress",
    "cancel": "cancelled",
    "reset": "not_started",
}
UPDATE_CHANCE = 0.2  # of a frame, whatever came before: a constant hazard cannot be counted out
SECOND_CHANCE = 0.1
ERROR_CHANCE = 0.05
QUESTION_CHANCE = 0.05
QUESTIONS = ("open", "done", "thanks")
MANY_OPEN = 2
NUM_STEPS = (4, 5, 5, 6, 6, 7, 8)
NOISE = 8.0


def _draw_transition(rng: random.Random, statuses: list[str], taken: set[int]) -> tuple[int, str]:
    open_steps = sum(status in ("in_progress", "paused") for status in statuses)
    start_weight = 0.3 if open_steps >= MANY_OPEN else 1.2
    options = [
        (step, transition, weight * (start_weight if transition == "start" else 1.0))
        for step, status in enumerate(statuses)
        if step not in taken
        for transition, weight in CHANCES[status]
    ]
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


def draw_schedule(rng: random.Random, num_steps: int, num_frames: int) -> list[Moment]:
    """A video's course, frame by frame; every frame has the same chance of an update."""
    statuses, moments, error_left = ["not_started"] * num_steps, [], 0
    for _ in range(num_frames):
        transitions: dict[int, str] = {}
        if rng.random() < UPDATE_CHANCE:
            for _ in range(1 + (rng.random() < SECOND_CHANCE)):
                step, transition = _draw_transition(rng, statuses, set(transitions))
                transitions[step] = transition
                statuses[step] = AFTER[transition]
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


class Painter:
    """Draws one video's frames: fixed board and objects; jitter, distractors, light and noise each frame."""

    def __init__(self, seed: int, task: Task, tint: tuple[int, int, int]):
        self._rng = np.random.default_rng(seed)
        self._background = np.array(tint) + self._rng.integers(-20, 21, 3)
        self._steps = task.steps
        self._place = MARGIN + 2 + self._rng.integers(-1, 2, 2)
        shades = self._rng.uniform(0.8, 1.05, len(task.steps))
        self._plates = [self._draw_plates(step, shade) for step, shade in zip(task.steps, shades, strict=True)]

    def _draw_plates(self, step: StepPlan, shade: float) -> dict[str, np.ndarray]:
        plates = {}
        for status, colour in STATUS_COLOURS.items():
            plate = np.empty((PLATE, PLATE, 3))
            plate[:] = self._background
            _MARKS[status](plate, np.array(colour) * shade)
            plates[status] = plate
        self._put_object(plates["completed"], step, 3, 3)
        return plates

    def _put_object(self, plate: np.ndarray, step: StepPlan, y: int, x: int) -> None:
        size = OBJECT_MASKS[step.shape].shape[0]
        plate[y : y + size, x : x + size][OBJECT_MASKS[step.shape]] = OBJECT_COLOURS[step.colour]

    def draw(self, moment: Moment) -> bytes:
        """The picture at `moment` as JPEG."""
        rng = self._rng
        image = np.empty((FRAME_SIZE + 2 * MARGIN, FRAME_SIZE + 2 * MARGIN, 3))
        image[:] = self._background
        top, left = self._place + rng.integers(-1, 2, 2)
        for position, status in enumerate(moment.statuses):
            y, x = top + CELL * (position // 3), left + CELL * (position % 3)
            plate = image[y : y + PLATE, x : x + PLATE]
            plate[:] = self._plates[position][status]
            if status == "in_progress":
                self._put_object(plate, self._steps[position], *rng.integers(0, 7, 2))
        if moment.error:
            mark = image[top + 2 * CELL : top + 2 * CELL + PLATE, left + 2 * CELL : left + 2 * CELL + PLATE]
            mark[0:8, 4:8] = mark[9:12, 4:8] = ERROR_COLOUR
        self._add_distractors(image)
        image = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
        image = image * rng.uniform(0.85, 1.1) + rng.normal(0, NOISE, image.shape)
        return encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), int(rng.integers(60, 93)))

    def _add_distractors(self, image: np.ndarray) -> None:
        for y, x, height, width in self._rng.integers((4, 4, 2, 2), (48, 48, 6, 6), (self._rng.integers(0, 3), 4)):
            image[y : y + height, x : x + width] = self._rng.integers(0, 256, 3)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """`image`: uint8 [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _mark_not_started(plate: np.ndarray, colour: np.ndarray) -> None:
    plate[[0, -1], :] = plate[:, [0, -1]] = colour


def _mark_plate(plate: np.ndarray, colour: np.ndarray) -> None:
    plate[:] = colour


def _mark_paused(plate: np.ndarray, colour: np.ndarray) -> None:
    plate[:, 1:5] = plate[:, 7:11] = colour


def _mark_cancelled(plate: np.ndarray, colour: np.ndarray) -> None:
    y, x = np.indices(plate.shape[:2])
    plate[(abs(y - x) < 2) | (abs(y + x - PLATE + 1) < 2)] = colour


_MARKS = {
    "not_started": _mark_not_started,
    "in_progress": _mark_plate,
    "completed": _mark_plate,
    "paused": _mark_paused,
    "cancelled": _mark_cancelled,
}


def _object_masks() -> dict[str, np.ndarray]:
    y, x = np.indices((6, 6)) - 2.5
    far = np.maximum(abs(y), abs(x))
    return {
        "square": far < 2.6,
        "disc": y**2 + x**2 < 8,
        "bar": abs(y) < 1.6,
        "ring": (far > 1) & (far < 2.6),
        "corner": (y > 0.6) | (x < -0.6),
        "cross": (abs(y) < 1) | (abs(x) < 1),
    }


OBJECT_MASKS = _object_masks()
