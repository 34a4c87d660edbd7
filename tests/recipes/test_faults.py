"""A fault of a recipe names the key that was meant."""

import pytest

from dst_dist.config import Recipe
from dst_dist.recipes.faults import RENAMED, places_of
from tests.recipes.reading import all_keys, faults_of


@pytest.mark.parametrize("key", sorted(all_keys()))
def test_a_key_with_a_letter_missing_is_recognised(key):
    section, _, name = key.rpartition(".")
    mistyped = f"{section}.{name[:-2] + name[-1]}".lstrip(".") if len(name) > 2 else f"{section}.{name}x"
    (fault,) = faults_of("lora", f"{mistyped}=1")
    assert fault.startswith(f"{mistyped}: unknown key; did you mean ")
    assert key in fault


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_a_renamed_key_is_pointed_to_one_that_exists(old):
    new = RENAMED[old]
    places = [".".join(place) for place in places_of(Recipe)]
    assert new in places
    for word in (f"{old}=1", f"train.{old}=1", f"finetune.lora.{old}=1"):
        assert faults_of("lora", word)[0].endswith(f"unknown key; did you mean {new}?")


def test_long_values_are_cut_short():
    (fault,) = faults_of("lora", f"seed={'x' * 10_000}")
    assert len(fault) < 150
