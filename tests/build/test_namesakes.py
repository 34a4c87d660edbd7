"""Work shared out among steps of one name, or of nearly one."""

import pytest

from dst_dist.build.namesakes import share
from dst_dist.build.steps import read_steps
from tests.build.found import changes

FENCE = "Fence\n1. Wash the fence.\n2. Brush on the first coat.\n3. Sand the fence.\n4. Brush on the second coat."
TABLE = "Table\n1. Screw on the left front leg.\n2. Screw on the right front leg.\n3. Screw on the left rear leg."
WIPE = "Desk\n1. Wipe the desk.\n2. Glue the edge.\n3. Wipe the desk."


@pytest.mark.parametrize(
    ("knowledge", "texts", "chosen", "found"),
    [
        pytest.param(FENCE, ["brush", "sand", "brush"], [1, 2, 1], [1, 2, 3], id="what comes again"),
        pytest.param(FENCE, ["brush", "sand", "brush"], [3, 2, 1], [3, 2, 1], id="all have work"),
        pytest.param(FENCE, ["second coat", "sand", "first coat"], [3, 2, 3], [3, 2, 1], id="the line's own word"),
        pytest.param(FENCE, ["second coat", "sand", "brush"], [3, 2, 3], [3, 2, 1], id="the one that is left"),
        pytest.param(FENCE, ["brush", "sand", "brush", "sand", "brush"], [1, 2, 1, 2, 1], [1, 2, 3, 2, 3], id="over"),
        pytest.param(FENCE, ["brush", "brush", "sand"], [3, 3, 2], [3, 3, 2], id="one visit is as it was"),
        pytest.param(FENCE, ["brush", None, "brush", "sand"], [1, None, 1, 2], [1, None, 1, 2], id="a line about none"),
        pytest.param(FENCE, ["brush", "sand", "second coat", "brush"], [1, 2, 3, 1], [1, 2, 3, 1], id="side by side"),
        pytest.param(
            TABLE + "\n4. Glue the top.",
            ["left front", "glue", "left rear", "glue", "front leg"],
            [0, 3, 0, 3, 0],
            [0, 3, 2, 3, 1],
            id="several words",
        ),
        pytest.param(TABLE, ["right front", "left front"], [0, 0], [1, 0], id="each in a line, side by side"),
        pytest.param(TABLE, ["left of the right front"], [0], [0], id="words of several"),
        pytest.param("Names\n1. Left.\n2. Glue it.\n3. Top.", ["", "", ""], [0, 1, 0], [0, 1, 0], id="no other word"),
        pytest.param(WIPE, ["wipe", "glue", "wipe again"], [0, 1, 0], [0, 1, 2], id="one name"),
        pytest.param(WIPE, ["wipe", "glue", "wipe"], [2, 1, 0], [2, 1, 0], id="one name, both have work"),
    ],
)
def test_who_takes_a_line(knowledge, texts, chosen, found):
    texts = [text or "" for text in texts]
    assert share(chosen, read_steps(knowledge), texts, [""] * len(texts)) == found


def test_the_second_coat_begins_where_the_work_comes_again():
    lines = "[1.0s-9.0s] wash fence\n[10.0s-20.0s] brush fence\n[30.0s-40.0s] sand fence\n[50.0s-60.0s] brush fence"
    assert changes(FENCE, lines) == [
        *("1 S1 start", "9 S1 complete", "10 S2 start", "20 S2 complete"),
        *("30 S3 start", "40 S3 complete", "50 S4 start", "60 S4 complete"),
    ]


@pytest.mark.parametrize(
    ("texts", "said", "found"),
    [
        pytest.param(
            ["screw leg", "screw leg"], ["Now the right front leg.", ""], [1, 1], id="and what is right behind"
        ),
        pytest.param(
            ["left front leg", "screw"], ["Now the right front leg.", ""], [0, 0], id="the line's own word counts"
        ),
        pytest.param(["screw leg", "screw leg"], ["The same as the right front leg.", ""], [0, 0], id="a comparison"),
        pytest.param(["screw leg", "screw leg"], ["Now the next leg.", ""], [0, 0], id="no word of one"),
        pytest.param(["leg", "leg"], ["Good.\nRight, now the leg.", ""], [0, 0], id="right is no side"),
        pytest.param(
            ["leg", "leg"], ["All right, the leg. That's right. Be careful right there.", ""], [0, 0], id="nor here"
        ),
        pytest.param(
            ["leg", "leg"], ["Wait a second. Welcome back to the front leg.", ""], [0, 0], id="a time, a greeting"
        ),
        pytest.param(["leg", "leg"], ["As before, the right front leg.", ""], [1, 1], id="behind a comparison"),
        pytest.param(["leg", "leg"], ["If you'd like, the right front leg.", ""], [1, 1], id="a wish"),
    ],
)
def test_what_is_said_as_a_line_begins_decides(texts, said, found):
    assert share([0, 0], read_steps(TABLE), texts, said) == found


REAR, FRONT = "First the rear wheels.", "Then put on the front wheels."


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        pytest.param((0.5, "assistant", REAR), (29.0, "assistant", FRONT), "21", id="told"),
        pytest.param((0.5, "user", REAR), (29.0, "user", FRONT), "12", id="the user's own word"),
        pytest.param((5.0, "assistant", REAR), (24.0, "assistant", FRONT), "12", id="long before and after"),
        pytest.param((0.5, "assistant", REAR, "responsive|feedback"), (29.0, "user", "?"), "12", id="no instruction"),
    ],
)
def test_wheels_are_told_apart_by_what_is_said(first, second, found):
    steps = "Cart\n1. Attach the front wheels to the axle.\n2. Attach the rear wheels to the axle.\n3. Add the cabin."
    lines = "[1.0s-9.0s] attach wheel to axle\n[10.0s-20.0s] add cabin\n[30.0s-40.0s] attach wheel to axle"
    begun = [change for change in changes(steps, lines, first, second) if "start" in change and "S3" not in change]
    assert begun == [f"1 S{found[0]} start", f"30 S{found[1]} start"]
