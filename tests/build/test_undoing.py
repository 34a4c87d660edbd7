"""Lines that take back what their step did; gold by hand."""

import pytest

from tests.build.found import changes

CURTAIN = "Curtain\n1. Thread the hooks into the hem.\n2. Hang the curtain on the rail.\n3. Tie it with the ribbon."
HOOKS, RAIL = "[10.0s-20.0s] thread hooks", "[30.0s-40.0s] hang curtain on rail"
LOWER, OTHER_END = "[42.0s-50.0s] lower it down", "[52.0s-60.0s] try the other end"
RIBBON = "[70.0s-80.0s] tie ribbon"
WRONG = (41, "assistant", "The pattern is inside out.", "initiative|correction")
DONE = ["10 S1 start", "20 S1 complete", "30 S2 start", "40 S2 complete"]
TIED = ["70 S3 start", "80 S3 complete"]


@pytest.mark.parametrize(
    ("lines", "turns", "gold"),
    [
        pytest.param(
            [LOWER, OTHER_END, RIBBON],
            [WRONG],
            ["42 S2 reset", "52 S2 start", "60 S2 complete", *TIED],
            id="taken back and done again",
        ),
        pytest.param([LOWER, RIBBON], [WRONG], ["42 S2 reset", *TIED], id="taken back"),
        pytest.param([LOWER, OTHER_END, RIBBON], [], TIED, id="nothing was wrong"),
        pytest.param([LOWER, RIBBON], [(41, "user", "Once again?")], TIED, id="again is no mistake"),
        pytest.param(
            [LOWER, RIBBON], [(36, "assistant", "Stretch it.", "initiative|correction")], TIED, id="wrong long before"
        ),
        pytest.param(["[42.0s-50.0s] stand under the rail", RIBBON], [WRONG], None, id="under is no undoing"),
        pytest.param(
            ["[42.0s-50.0s] tie ribbon back"], [WRONG], ["42 S3 start", "50 S3 complete"], id="another step is named"
        ),
        pytest.param(
            [LOWER, RIBBON.replace("70.0", "52.0")],
            [WRONG],
            ["42 S2 reset", "52 S3 start", "80 S3 complete"],
            id="another step follows",
        ),
    ],
)
def test_a_line_behind_a_correction_takes_the_step_at_hand_back(lines, turns, gold):
    found = changes(CURTAIN, "\n".join([HOOKS, RAIL, *lines]), *turns)
    if gold is None:
        assert not any("reset" in change for change in found)
    else:
        assert found == DONE + gold


def test_nothing_is_taken_back_before_a_step_began():
    assert changes(CURTAIN, LOWER, WRONG) == []


def test_a_step_that_takes_a_thing_out_is_not_undone_by_that():
    knowledge = "Fireplace\n1. Shovel the ash out of the stove and fetch the grate.\n2. Lay the logs."
    lines = "[1.0s-5.0s] shovel ash\n[6.0s-9.0s] take out the grate\n[10.0s-14.0s] more ash\n[20.0s-24.0s] lay logs"
    assert changes(knowledge, lines) == ["1 S1 start", "14 S1 complete", "20 S2 start", "24 S2 complete"]


def test_what_is_done_again_is_the_step_at_hand_whatever_its_verb():
    knowledge = "Cabinet\n1. Attach the side panel to the base.\n2. Screw the knob on."
    lines = "[10.0s-20.0s] attach side panel\n[22.0s-30.0s] takes it off\n[32.0s-40.0s] fixes it the right way round"
    wrong = (21, "assistant", "It is upside down.", "initiative|correction")
    redone = ["10 S1 start", "20 S1 complete", "22 S1 reset", "32 S1 start", "40 S1 complete"]
    assert changes(knowledge, lines, wrong, (31.5, "assistant", "Now screw it on again.")) == redone


def test_a_step_without_lines_takes_none_that_does_another_again():
    knowledge = "Box\n1. Attach the lid to the box.\n2. Paint the box blue.\n3. Attach the feet to the box."
    lines = "[10.0s-20.0s] attach lid\n[30.0s-34.0s] take lid off\n[36.0s-40.0s] attach lid"
    turns = [(29, "assistant", "That is wrong."), (35.5, "assistant", "Attach the feet to the box.")]
    assert [change for change in changes(knowledge, lines, *turns) if "S1" in change] == [
        *("10 S1 start", "20 S1 complete", "30 S1 reset", "36 S1 start", "40 S1 complete")
    ]
