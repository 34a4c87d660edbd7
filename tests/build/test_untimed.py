"""Steps that are described without a time."""

import pytest

from tests.build.found import changes

TEA = "Tea\n1. Boil the water.\n2. Pour milk into the cup.\n3. Stir with a spoon."


@pytest.mark.parametrize(
    ("lines", "gold"),
    [
        ("[1.0s-5.0s] boil water\npour milk\n[9.0s-12.0s] stir", ["5 S2 start", "9 S2 complete"]),
        ("[1.0s-5.0s] boil water\npour milk\n[5.5s-12.0s] stir", []),
        ("[1.0s-5.0s] boil water\n[6.0s-7.0s] stir\npour milk", ["7 S2 start"]),
        ("[1.0s-5.0s] boil water\nlooks around\n[9.0s-12.0s] stir", []),
        ("[1.0s-5.0s] boil water\nboil water\n[9.0s-12.0s] stir", []),
        ("pour milk", []),
    ],
)
def test_an_untimed_text_lies_between_the_lines_around_it(lines, gold):
    assert [change for change in changes(TEA, lines) if "S2" in change] == gold


def test_what_is_said_is_nearer():
    lines = "[1.0s-5.0s] boil water\npour milk\n[9.0s-12.0s] stir"
    assert "6 S2 start" in changes(TEA, lines, (6.0, "assistant", "Pour milk into the cup."))
