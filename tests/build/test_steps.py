"""Steps from `inferred_knowledge` in every way of writing them."""

import pytest

from dst_dist.build.steps import Step, lines_without_step, read_steps, repeated

PLAIN = [(1, "Boil the water."), (2, "Pour the tea."), (3, "Stir.")]


@pytest.mark.parametrize(
    "lines",
    [
        "Tea\n1. Boil the water.\n2. Pour the tea.\n3. Stir.",
        "Tea\n1. Boil the water.\n2. Pour the tea.\n3. Stir.\n",
        "**Tea**\n\n1. Boil the water.\n\n2. Pour the tea.\n\n3. Stir.",
        "Tea\n1) Boil the water.\n2) Pour the tea.\n3) Stir.",
        "Tea\n(1) Boil the water.\n(2) Pour the tea.\n(3) Stir.",
        "Tea\nStep 1: Boil the water.\nStep 2: Pour the tea.\nStep 3 - Stir.",
        "Tea\n**Step 1:** Boil the water.\n**2.** Pour the tea.\n**3. Stir.**",
        "Tea\n1 - Boil the water.\n2 \u2013 Pour the tea.\n3 - Stir.",
        "# Tea\n## Steps\n- 1. Boil the water.\n- 2. Pour the tea.\n- 3. Stir.",
        "Tea\n  1.Boil the water.\n  2.Pour the tea.\n  3.Stir.",
        "Tea\n1. Boil the\nwater.\n2. Pour the tea.\n3. Stir.\n\nEnjoy your tea!",
        "Tea\n1. Boil the water.\n   - about a cup\n2. Pour the tea.\nNote: it is hot.\n3. Stir.\nThat is all.",
        "Tea\n\nIngredients\n1.5 cups water\n1 8-inch spoon\n2 - 3 bags\n\nSteps\n1. Boil the water.\n2. Pour the tea."
        "\n3. Stir.",
        "Tea\nIngredients:\n1. Water\n2. A bag\nInstructions:\n1. Boil the water.\n2. Pour the tea.\n3. Stir.",
        "Tea\r\n1. Boil the water.\r\n2. Pour the tea.\r\n3. Stir.\r\n",
    ],
)
def test_every_way_of_numbering(lines):
    assert read_steps(lines) == [Step(*step) for step in PLAIN]


@pytest.mark.parametrize(
    ("lines", "steps"),
    [
        ("Tea\nno number here\n", []),
        ("", []),
        ("Tea\n2. Pour.\n5. Stir.", [(2, "Pour."), (5, "Stir.")]),
        ("Tea\n1. Wipe.\n2. Cut.\n3. Wipe.", [(1, "Wipe."), (2, "Cut."), (3, "Wipe.")]),
        ("Tea\n1. Leave 1/2-\ninch uncovered.", [(1, "Leave 1/2-inch uncovered.")]),
        ("Tea\n1. Take the tray\n2 slices of bread fit.", [(1, "Take the tray 2 slices of bread fit.")]),
        (
            "Tea\n1. Roll it tight enough to prevent gaps, but not so tight that it leaks.\nRoll slowly.\n2. Cut.",
            [(1, "Roll it tight enough to prevent gaps, but not so tight that it leaks. Roll slowly."), (2, "Cut.")],
        ),
        (
            "Tea\n1. Prepare tea: boil water. Add tea.\n2. Drink.",
            [(1, "Prepare tea: boil water. Add tea."), (2, "Drink.")],
        ),
        ("Tea\n1.\n2. Drink.", [(2, "Drink.")]),
        ("Tea\n1.\nBoil.\n2. Drink.", [(1, "Boil."), (2, "Drink.")]),
        (
            "Tea\nPreparation:\n1. Boil it\n2. Pour it\nInstructions:\n3. Stir.\n4. Drink.",
            [(1, "Boil it"), (2, "Pour it"), (3, "Stir."), (4, "Drink.")],
        ),
        (
            "Tea\n1. Let it stand for at least\n12. minutes\n2. Pour.",
            [(1, "Let it stand for at least 12. minutes"), (2, "Pour.")],
        ),
    ],
)
def test_steps_keep_their_own_numbers_and_words(lines, steps):
    assert read_steps(lines) == [Step(*step) for step in steps]


@pytest.mark.parametrize(
    ("lines", "numbers", "left"),
    [
        ("Tea\n1. Boil.\n2. Pour.", [1, 2], []),
        ("Tea\n1. Let it stand for\n12. minutes\n2. Pour.", [1, 2], ["12. minutes"]),
        ("Tea\n1. Boil.\n2. Pour.\n2. Stir.\n3. Drink.", [1, 2, 3], ["2. Stir."]),
        ("Tea\n3. Drink.\n1. Boil.\n2. Pour.", [1, 2], ["3. Drink."]),
        ("Tea\nBatter\n1. Mix.\n2. Bake.\nIcing\n1. Beat.\n2. Spread.", [1, 2], ["1. Beat.", "2. Spread."]),
        ("Tea\nSteps\n1. Boil.\n2. Pour.\nMethod:\n1. Rest.", [1], ["1. Boil.", "2. Pour."]),
        ("Tea\nIngredients\n1. Water\nSteps\n1. Boil.", [1], ["1. Water"]),
    ],
)
def test_numbered_lines_that_begin_no_step_are_named(lines, numbers, left):
    steps = read_steps(lines)
    assert [step.number for step in steps] == numbers
    assert lines_without_step(lines, steps) == left


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("Repeat steps 2-4 to cook all.", [2, 3, 4]),
        ("Then repeat Steps 2 to 3.", [2, 3]),
        ("Repeat steps 1, 2 and 5.", [1, 2, 5]),
        ("Repeat step 2.", [2]),
        ("Cook 2-4 breads.", []),
    ],
)
def test_a_step_that_repeats_others_names_them(name, numbers):
    assert repeated(Step(6, name)) == numbers
