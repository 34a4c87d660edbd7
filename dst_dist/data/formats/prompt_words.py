"""Reads what a prompt itself says about task, steps and dialog state, which the opening turn writes too."""

import re
from collections.abc import Mapping, Sequence

from dst_dist.data.clips import Step
from dst_dist.data.formats.agreement import alike
from dst_dist.data.reading_log import ClipLog
from dst_dist.data.state import NOT_STARTED, STATUSES

UNTRUE_STATE = "prompts whose words about the dialog state are not true, left out"
TWICE = "prompts with words about the dialog state, left out: the opening turn has the state, which changes"
OTHER_STEP = "prompts that name a step otherwise than `dst`, the words left out"
OTHER_TASK = "prompts that name another task, the words left out"

_PIECES = re.compile(r"(\n|(?<=[.!?])[ \t]+)")
"""Lines and sentences, and what separates them."""
_HEADING = re.compile(r"[\w ]+:\s*")
_ITEM = re.compile(r"\s*[-*]")
_STATE_LABEL = re.compile(r"[\w ]*\bstate\b[\w ]*[:=]", re.I)
_STATUS = "|".join(status.replace("_", "[_ ]") for status in STATUSES)
_STATUS_OF = re.compile(rf"""[\s"'{{(*-]*(.+?)["')]*(?:\s*[:=]|\s+is|\s)\s*["'(]*({_STATUS})["')}}.\s]*""", re.I)
_STEP = re.compile(r"\s*[-*]?\s*([^\s:)]+)\s*[:)]\s*(\S.*)")
_TASK = re.compile(r"\s*(?:task|goal)\s*:\s*(\S.*)", re.I)


class PromptWords:
    """A prompt in pieces, lines or sentences.

    Attributes:
        states: the status that it gives to each step that it names.
    """

    def __init__(self, prompt: str, steps: Sequence[Step]):
        self._parts = _PIECES.split(prompt)
        self._names = {step.id: step.name for step in steps}
        self._steps = {alike(word): step.id for step in steps for word in (step.name, step.id)}
        self._states = {place: self._read_state(self._parts[place]) for place in range(0, len(self._parts), 2)}
        self.states = {step: status for said in self._states.values() for step, status in (said or {}).items()}

    def _read_state(self, piece: str) -> dict[str, str] | None:
        """Return the statuses that a piece gives, if it says nothing else; None if it is about something else."""
        label = _STATE_LABEL.match(piece)
        rest = piece[label.end() :] if label else piece
        if label and alike(rest) == "none":
            return {}
        found = [_STATUS_OF.fullmatch(part) for part in re.split("[,;]", rest)]
        steps = [self._steps.get(alike(one[1])) if one else None for one in found]
        if None in steps:
            return None
        return {step: one[2].lower().replace(" ", "_") for step, one in zip(steps, found, strict=True)}

    def beside(self, goal: str, state: Mapping[str, str], log: ClipLog) -> str:
        """Return the prompt without sentences about the dialog state, or against the opening turn.

        Args:
            goal, state: what the opening turn says of the clip; `state` may leave out steps that are not started.
        """
        kinds = {place: self._fault(place, goal, state) for place in self._states}
        for place, kind in kinds.items():
            if kind is not None:
                tell = log.count if kind == TWICE else log.contradiction
                tell(kind, detail=self._parts[place].strip())
        kept = [place for place, kind in kinds.items() if kind is None and not self._heads_nothing(place, kinds)]
        return "".join(text for place in kept for text in self._parts[place - (place > kept[0]) : place + 1])

    def _heads_nothing(self, place: int, kinds: Mapping[int, str | None]) -> bool:
        """Return whether a piece is the heading of a list that is left out whole."""
        below = next((other for other in kinds if other > place and kinds[other] is None), None)
        is_left_out = kinds.get(place + 2) is not None
        is_heading = _HEADING.fullmatch(self._parts[place]) is not None
        return is_heading and is_left_out and not (below and _ITEM.match(self._parts[below]))

    def _fault(self, place: int, goal: str, state: Mapping[str, str]) -> str | None:
        """Return why a piece is left out, None if it stays."""
        piece, said = self._parts[place], self._states[place]
        if said is not None:
            is_true = all(state.get(step, NOT_STARTED) == status for step, status in said.items())
            is_true &= bool(said) or not any(status != NOT_STARTED for status in state.values())
            return TWICE if is_true else UNTRUE_STATE
        step, task = _STEP.fullmatch(piece), _TASK.fullmatch(piece)
        # A name of several sentences goes on in the next piece.
        if step and step[1] in self._names and not alike(self._names[step[1]]).startswith(alike(step[2])):
            return OTHER_STEP
        return OTHER_TASK if task and goal and not alike(goal).startswith(alike(task[1])) else None
