"""The table of cards on the recipes' page is what `plan` says."""

import pytest

from tests.recipes import cards


def check(name):
    page = cards.PAGE.read_text().splitlines()
    assert [row for row in cards.rows(name) if row not in page] == []


def test_every_recipe_has_its_rows():
    page = cards.PAGE.read_text()
    assert [name for name in cards.RECIPES if page.count(f"| `{name}` |") != len(cards.LAUNCHES)] == []


@pytest.mark.filterwarnings("ignore")
def test_the_rows_of_a_recipe_are_planned():
    check("2.2B-lora")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", cards.RECIPES)
def test_the_rows_of_every_recipe_are_planned(name):
    check(name)
