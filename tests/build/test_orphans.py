"""Lines that share no word with their step, and where they belong; gold by hand."""

import pytest

from tests.build.found import changes

KITE = "Kite\n1. Cross the sticks.\n2. Wind string round the middle.\n3. Glue the paper.\n4. Knot a tail."
STICKS, FIRM, PAPER = "[10.0s-20.0s] cross sticks", "[30.0s-40.0s] makes it firm", "[50.0s-60.0s] glue paper"
TOLD = (29.5, "assistant", "Now it has to hold tight.")
CROSSED, GLUED = ["10 S1 start", "20 S1 complete"], ["50 S3 start", "60 S3 complete"]


@pytest.mark.parametrize(
    ("lines", "turns", "gold"),
    [
        pytest.param(
            [STICKS, FIRM, PAPER], [TOLD], ["30 S2 start", "40 S2 complete"], id="told, behind the step before"
        ),
        pytest.param([STICKS, FIRM, PAPER], [], [], id="not told"),
        pytest.param([STICKS, FIRM, PAPER], [(20.5, "assistant", "It has to hold tight.")], [], id="told long before"),
        pytest.param([STICKS, FIRM, PAPER], [(29.5, "user", "I'll make some room.")], [], id="the user's own word"),
        pytest.param(
            [STICKS, FIRM, PAPER],
            [(22, "assistant", "Wind the string round the middle."), TOLD],
            ["22 S2 start", "50 S2 complete"],
            id="the step is told elsewhere",
        ),
        pytest.param(
            [STICKS, PAPER, "[70.0s-80.0s] makes it firm"],
            [(70, *TOLD[1:])],
            ["70 S4 start", "80 S4 complete"],
            id="the last",
        ),
        pytest.param(
            [
                STICKS,
                "[25.0s-30.0s] glue tail",
                "[31.0s-40.0s] makes it firm",
                PAPER.replace("glue paper", "knot tail"),
            ],
            [(31, *TOLD[1:])],
            None,
            id="not behind the step before",
        ),
        pytest.param(
            [STICKS, FIRM, PAPER, "[70.0s-80.0s] makes it firm again"],
            [TOLD],
            ["30 S2 start", "40 S2 pause", "70 S2 resume", "80 S2 complete"],
            id="a line in nearly the words of another",
        ),
        pytest.param(
            [STICKS, FIRM, PAPER, "[70.0s-80.0s] makes the floor clean"],
            [TOLD],
            ["30 S2 start", "40 S2 complete"],
            id="a line in some words of another",
        ),
        pytest.param(
            [STICKS, FIRM, "[40.3s-44.0s] bites it off", PAPER], [TOLD], ["30 S2 start", "44 S2 complete"], id="goes on"
        ),
        pytest.param(
            [STICKS, FIRM, "[40.3s-44.0s] inspects it", PAPER], [TOLD], ["30 S2 start", "40 S2 complete"], id="looks"
        ),
        pytest.param(
            [STICKS, FIRM, "[41.0s-44.0s] bites it off", PAPER], [TOLD], ["30 S2 start", "40 S2 complete"], id="a gap"
        ),
        pytest.param(
            [STICKS, "[30.0s-40.0s] takes a ball", "[40.2s-45.0s] wind string", PAPER],
            [TOLD],
            ["30 S2 start", "45 S2 complete"],
            id="the told line leads into the work",
        ),
        pytest.param(
            [STICKS, "[30.0s-40.0s] takes a ball", "[40.2s-45.0s] wind string", PAPER],
            [],
            ["40.2 S2 start", "45 S2 complete"],
            id="a line before the work",
        ),
    ],
)
def test_a_step_without_lines_takes_one_that_an_instruction_begins(lines, turns, gold):
    found = changes(KITE, "\n".join(lines), *turns)
    if gold is None:
        assert not any(" S2 " in change for change in found)
    else:
        assert sorted(found) == sorted([*CROSSED, *gold, *GLUED])


def test_only_the_line_right_behind_the_work_lengthens_it():
    lines = [STICKS, "[20.3s-24.0s] holds on", "[24.2s-45.0s] drinks tea", PAPER]
    assert changes(KITE, "\n".join(lines)) == ["10 S1 start", "24 S1 complete", *GLUED]


def test_a_step_takes_a_line_that_is_nearly_as_much_about_it_if_it_is_told():
    lines = "[10.0s-20.0s] glue paper\n[30.0s-40.0s] glue paper to the tail\n[50.0s-60.0s] glue paper"
    told = (29.5, "assistant", "Now knot a tail.")
    assert changes(KITE, lines) == ["10 S3 start", "60 S3 complete"]
    around = ["10 S3 start", "20 S3 pause", "50 S3 resume", "60 S3 complete"]
    assert sorted(changes(KITE, lines, told)) == sorted([*around, "30 S4 start", "40 S4 complete"])
    assert "30 S4 start" not in changes(KITE, lines.replace(" to the tail", ""), told)
    untold = lines.replace("glue paper to the tail", "bend the paper tail")
    assert changes(KITE, untold) == ["10 S3 start", "60 S3 complete"], "more about it, but not told"
    # A step keeps its only line.
    assert "30 S3 start" in changes(KITE, lines.split("\n")[1], told)
