"""Tasks for generated dialogs: each step with other words for it, as annotators and people in a dialog say it."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wording:
    """A step and the words for it: annotated lines, instructions, the thing it is about, what goes on."""

    name: str
    written: tuple[str, ...]
    told: tuple[str, ...]
    thing: str
    going_on: str


_READ = json.loads(Path(__file__).with_suffix(".json").read_text())
TASKS = {goal: tuple(Wording(**step) for step in steps) for goal, steps in _READ["chosen_on"].items()}
"""By goal; thresholds and costs were chosen on these."""
HELD_OUT = {goal: tuple(Wording(**step) for step in steps) for goal, steps in _READ["held_out"].items()}
"""Tasks that nothing was chosen on."""
