"""Tables of the decision heads and the loss terms, which data, model, recipe, metrics and pages read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Head:
    """A head that decides at every decision position whether a turn of one role follows.

    Attributes:
        name: name of the head, its loss term, its weight in the recipe (`loss.<name>`) and its metrics.
        role: role of the turn that it decides on.
        threshold_key: key of its threshold, in the recipe's `eval` and in a model's config.
        events: name, in a timeline, of the turns that it decides on.
        label: name of its decisions on pages.
        needs_steps: whether it decides nothing in a clip without steps.
    """

    name: str
    role: str
    threshold_key: str
    events: str
    label: str
    needs_steps: bool

    @property
    def module(self) -> str:
        """Name of its layer in the model."""
        return f"{self.name}_head"

    @property
    def rate_key(self) -> str:
        """Key in a model's config of its share of positives in training."""
        return f"{self.name}_rate"


HEADS = (
    Head("dst_update", "DST_UPDATE", "dst_threshold", events="updates", label="Updates", needs_steps=True),
    Head("speaking", "assistant", "speaking_threshold", events="replies", label="Replies", needs_steps=False),
)
"""Decision heads, in the order in which an outcome is written: the update, then the reply."""

HEAD_NAMES = tuple(head.name for head in HEADS)
HEAD_MODULES = tuple(head.module for head in HEADS)
HEAD_ROLES = tuple(head.role for head in HEADS)

TERM_NAMES = ("lm", "dst_gen", *HEAD_NAMES)
"""Loss terms; `dst_dist.model.losses.TERMS` has their functions, the recipe's `loss` their weights."""

NEVER = 1.0
"""Threshold stored for a head that was never trained: no probability lies above it."""
