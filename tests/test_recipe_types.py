"""Types of recipe values: what each takes and what it refuses."""

import pytest
from pydantic import TypeAdapter, ValidationError

from dst_dist.recipe_types import AutoOrSwitch, Count, Dataset, NonNegative, Positive, Share, Text, Whole

TAKEN = {
    "YAML reads 2e-5 as text": (NonNegative, "2e-5", 2e-5),
    "a whole number for a float": (Positive, 3, 3.0),
    "zero": (NonNegative, 0, 0.0),
    "one": (Share, 1, 1.0),
    "a name": (Dataset, "kitchen", "kitchen"),
    "a weight": (Dataset, {"kitchen": 2}, {"kitchen": 2}),
    "a switch": (AutoOrSwitch, True, True),
    "a switch left to the run": (AutoOrSwitch, "auto", "auto"),
}
REFUSED = {
    "words": (NonNegative, "fast"),
    "zero where it divides": (Positive, 0),
    "more than all": (Share, 1.01),
    "nothing": (Text, ""),
    "no count": (Count, 0),
    "below zero": (Whole, -1),
    "too large for an index": (Count, 2**31),
    "half a weight": (Dataset, {"kitchen": 0.5}),
    "a number for a switch": (AutoOrSwitch, 1),
    "no switch at all": (AutoOrSwitch, 0.0),
    "too large for a float": (NonNegative, 10**400),
    "a list": (Dataset, ["kitchen"]),
}


@pytest.mark.parametrize("kind, value, expected", TAKEN.values(), ids=TAKEN)
def test_taken(kind, value, expected):
    found = TypeAdapter(kind).validate_python(value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("kind, value", REFUSED.values(), ids=REFUSED)
def test_refused(kind, value):
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)
