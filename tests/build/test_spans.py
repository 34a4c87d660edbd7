"""Transitions from annotated lines, and what is said about steps that have some; gold by hand."""

import pytest

from tests.build.found import changes

LAMP = "Lamp\n1. Unfold the stand.\n2. Screw the bulb into the socket.\n3. Plug in the cable."
STAND, BULB, CABLE = "[5.0s-10.0s] unfold stand", "[20.0s-30.0s] screw in bulb", "[50.0s-60.0s] plug in cable"
AGAIN = "[70.0s-80.0s] screw bulb tight"
DONE = ["5 S1 start", "10 S1 complete"]


@pytest.mark.parametrize(
    ("lines", "turns", "gold"),
    [
        pytest.param([STAND], [], DONE, id="a line"),
        pytest.param([STAND, "[10.5s-14.0s] unfold stand"], [], ["5 S1 start", "14 S1 complete"], id="two in a row"),
        pytest.param(
            [STAND, "[30.0s-34.0s] unfold stand"], [], ["5 S1 start", "34 S1 complete"], id="a gap is no pause"
        ),
        pytest.param(
            [BULB, CABLE, AGAIN],
            [],
            ["20 S2 start", "30 S2 pause", "50 S3 start", "60 S3 complete", "70 S2 resume", "80 S2 complete"],
            id="another step between",
        ),
        pytest.param(
            [BULB, "[40.0s-60.0s] answers the telephone", AGAIN],
            [(30.5, "user", "Sorry, my phone is ringing.")],
            ["20 S2 start", "30 S2 pause", "70 S2 resume", "80 S2 complete"],
            id="called away",
        ),
        pytest.param(
            [BULB, "[40.0s-60.0s] looks around", AGAIN],
            [],
            ["20 S2 start", "80 S2 complete"],
            id="a line about nothing",
        ),
        pytest.param(
            [BULB, CABLE, AGAIN],
            [(48, "assistant", "While the bulb is screwing itself in, plug in the cable.")],
            ["20 S2 start", "50 S3 start", "60 S3 complete", "80 S2 complete"],
            id="goes on by itself",
        ),
        pytest.param(
            [BULB, CABLE, AGAIN],
            [
                (31, "user", "The bulb is too hot, hold on."),
                (48, "assistant", "Then plug in the cable in the meantime."),
            ],
            ["20 S2 start", "30 S2 pause", "50 S3 start", "60 S3 complete", "70 S2 resume", "80 S2 complete"],
            id="held, and another meanwhile",
        ),
        pytest.param([BULB], [(40, "user", "I give up on the bulb.")], ["20 S2 start", "40 S2 cancel"], id="given up"),
        pytest.param(
            [BULB, CABLE],
            [(62, "user", "Forget the bulb, it is broken.")],
            ["20 S2 start", "30 S2 pause", "50 S3 start", "60 S3 complete", "62 S2 cancel"],
            id="given up later",
        ),
        pytest.param(
            [BULB], [(30, "user", "I'll leave the bulb for now.")], ["20 S2 start", "30 S2 pause"], id="left for later"
        ),
        pytest.param(
            [BULB],
            [(30, "user", "Let's set the bulb aside."), (45, "user", "Forget the bulb.")],
            ["20 S2 start", "30 S2 pause", "45 S2 cancel"],
            id="left, and given up later",
        ),
        pytest.param(
            [BULB],
            [(30, "user", "I'll leave the bulb for now."), (45, "assistant", "Now screw the bulb in.")],
            ["20 S2 start", "30 S2 pause", "45 S2 resume"],
            id="left, and told again",
        ),
        pytest.param(
            [BULB, CABLE],
            [
                (35, "assistant", "That is the wrong bulb, take it out again.", "initiative|correction"),
                (40, "assistant", "Screw the other bulb in."),
            ],
            ["20 S2 start", "30 S2 complete", "35 S2 reset", "40 S2 start"]
            + ["50 S2 complete", "50 S3 start", "60 S3 complete"],
            id="undone in words, and told again",
        ),
        pytest.param(
            [BULB, AGAIN],
            [(35, "assistant", "That is the wrong bulb, take it out again.", "initiative|correction")],
            ["20 S2 start", "30 S2 complete", "35 S2 reset", "70 S2 start", "80 S2 complete"],
            id="undone in words",
        ),
        pytest.param(
            [BULB, "[40.0s-45.0s] unscrew bulb", AGAIN],
            [],
            ["20 S2 start", "30 S2 complete", "40 S2 reset", "70 S2 start", "80 S2 complete"],
            id="undone in a line",
        ),
        pytest.param(
            [BULB],
            [(22, "assistant", "It sits wrong, take it out again.", "initiative|correction")],
            ["20 S2 start", "30 S2 complete"],
            id="corrected while at it",
        ),
        pytest.param(
            ["[20.0s-60.0s] screw in bulb"],
            [(30, "user", "One moment, the doorbell."), (45, "user", "I'm back.")],
            ["20 S2 start", "30 S2 pause", "45 S2 resume", "60 S2 complete"],
            id="called away inside a line",
        ),
        pytest.param(
            ["[20.0s-60.0s] screw in bulb"],
            [(25, "user", "I give up."), (30, "user", "One moment, the doorbell."), (45, "user", "I'm back.")],
            ["20 S2 start", "25 S2 cancel"],
            id="called away after giving up",
        ),
        pytest.param(
            [BULB, "[25.0s-45.0s] unscrew bulb", AGAIN],
            [],
            ["20 S2 start", "25 S2 complete", "25 S2 reset", "70 S2 start", "80 S2 complete"],
            id="undone before its line ends",
        ),
        pytest.param(["[5.0s] unfold stand"], [], ["5 S1 start"], id="no end"),
        pytest.param(
            [STAND, "[15.0s] unfold stand"],
            [(12, "user", "That's done."), (18, "user", "That's done.")],
            ["5 S1 start", "18 S1 complete"],
            id="no end of the last line",
        ),
        pytest.param(
            ["[5.0s] unfold stand", BULB],
            [],
            ["5 S1 start", "20 S1 complete", "20 S2 start", "30 S2 complete"],
            id="no end of its own",
        ),
        pytest.param(
            [BULB, "[22.0s-24.0s] unfold stand"],
            [],
            ["20 S2 start", "22 S1 start", "24 S1 complete", "30 S2 complete"],
            id="one inside another",
        ),
        pytest.param(
            [STAND, BULB],
            [(12, "user", "When do I plug in the cable?"), (12.5, "assistant", "The cable comes later.")],
            [*DONE, "20 S2 start", "30 S2 complete"],
            id="a question about a later step",
        ),
    ],
)
def test_changes_of_steps_with_lines(lines, turns, gold):
    assert changes(LAMP, "\n".join(lines), *turns) == gold


CRANE = """Crane
1. Assemble the chassis by attaching and screwing the chassis parts together.
2. Attach the wheels to the chassis.
3. Attach the cabin to the chassis.
4. Attach the body to the chassis.
5. Demonstrate the toy."""


def test_mistakes_and_corrections_of_a_toy():
    lines = """[97.0s-106.0s] attach chassis to chassis
[106.0s-116.0s] screw chassis
 - [107.7s] screw chassis with screwdriver
[116.0s-125.0s] attach wheel to chassis
[125.0s-140.0s] attach body to chassis (mistake: wrong order)
[140.0s-146.0s] detach body from chassis (correction of "attach body to chassis")
[146.0s-160.0s] attach cabin to chassis
[160.0s-180.0s] attach body to chassis
[180.0s-190.0s] demonstrate functionality"""
    assert changes(CRANE, lines) == [
        "97 S1 start",
        "116 S1 complete",
        "116 S2 start",
        "125 S2 complete",
        "125 S4 start",
        "140 S4 complete",
        "140 S4 reset",
        "146 S3 start",
        "160 S4 start",
        "160 S3 complete",
        "180 S4 complete",
        "180 S5 start",
        "190 S5 complete",
    ]


BREAD = (
    "Bread\n1. Mix the dough.\n2. Roll the dough flat.\n3. Cook the bread in the pan.\n4. Repeat steps 2-3.\n5. Clean."
)


def test_a_step_that_repeats_others_takes_what_comes_again():
    lines = """[4.0s-10.0s] mix dough
[10.0s-20.0s] roll dough
[20.0s-30.0s] cook bread in pan
[30.0s-40.0s] roll dough
[40.0s-50.0s] cook bread in pan"""
    assert changes(BREAD, lines)[-4:] == ["20 S3 start", "30 S3 complete", "30 S4 start", "50 S4 complete"]


def test_what_is_undone_in_words_is_the_last_step_that_has_the_thing():
    knowledge = "Gift\n1. Cut the paper.\n2. Fold the paper around the box.\n3. Tape the edges."
    lines = (
        "[3.0-15.0] cut paper\n[16.0-30.0] fold paper around box\n[31.0-40.0] tape edges\n[50.0-60.0] fold paper on box"
    )
    turn = (41, "assistant", "It is upside down. Take the paper off and start over.", "initiative|correction")
    found = [change for change in changes(knowledge, lines, turn) if "S2" in change]
    assert found == ["16 S2 start", "30 S2 complete", "41 S2 reset", "50 S2 start", "60 S2 complete"]


def test_taking_the_pan_away_is_part_of_frying():
    knowledge = "Eggs\n1. Fry the eggs in the pan.\n2. Butter the toast."
    lines = "[1.0s-9.0s] fry eggs in pan\n[9.0s-12.0s] remove eggs from pan\n[13.0s-19.0s] butter toast"
    assert changes(knowledge, lines) == ["1 S1 start", "12 S1 complete", "13 S2 start", "19 S2 complete"]


def test_a_step_that_removes_is_no_undoing():
    knowledge = "Bolt\n1. Insert the bolt.\n2. Turn the plate.\n3. Remove the bolt."
    lines = "[1.0s-5.0s] insert bolt\n[6.0s-9.0s] turn plate\n[10.0s-14.0s] remove bolt"
    assert changes(knowledge, lines)[-2:] == ["10 S3 start", "14 S3 complete"]


BROTH = "Broth\n1. Simmer the broth.\n2. Chop the leek.\n3. Grate the cheese."
POT, LEEK = "[10.0s-20.0s] simmer broth", "[30.0s-40.0s] chop leek"
MEANWHILE = (25, "assistant", "While the broth is simmering, chop the leek.")
CHOPPED = ["30 S2 start", "40 S2 complete"]


@pytest.mark.parametrize(
    ("lines", "turns", "gold"),
    [
        pytest.param(
            [POT, LEEK],
            [MEANWHILE, (50, "assistant", "The broth is clear now.")],
            ["10 S1 start", *CHOPPED, "50 S1 complete"],
            id="until it is said to be done",
        ),
        pytest.param([POT, LEEK], [MEANWHILE], ["10 S1 start", "20 S1 complete", *CHOPPED], id="nobody says so"),
        pytest.param(
            [POT, LEEK],
            [(50, "assistant", "The broth is clear now.")],
            ["10 S1 start", "20 S1 complete", *CHOPPED],
            id="not said to go on",
        ),
        pytest.param(
            [POT, LEEK],
            [(25, "assistant", "While you wait, chop the leek."), (50, "assistant", "The broth is clear now.")],
            ["10 S1 start", "20 S1 complete", *CHOPPED],
            id="not said of which",
        ),
        pytest.param(
            [POT, LEEK],
            [(22, "assistant", "The broth is clear now."), MEANWHILE],
            ["10 S1 start", "20 S1 complete", *CHOPPED],
            id="done before",
        ),
        pytest.param(
            [POT, LEEK],
            [(15, "user", "I wait while the broth is simmering."), (18, "assistant", "The broth is clear now.")],
            ["10 S1 start", "20 S1 complete", *CHOPPED],
            id="done within its line",
        ),
        pytest.param(
            [LEEK, "[50.0s-60.0s] simmer broth"],
            [(55, "user", "I wait while the broth is simmering.")],
            [*CHOPPED, "50 S1 start", "60 S1 complete"],
            id="said within its line",
        ),
        pytest.param(
            [LEEK, "[50.0s-60.0s] simmer broth"],
            [(54, "user", "Hold on."), (65, "user", "I'll have lunch while the broth is simmering.")],
            [*CHOPPED, "50 S1 start"],
            id="held within its line",
        ),
        pytest.param(
            [POT, LEEK],
            [MEANWHILE, (45, "assistant", "The leek is soft now.")],
            ["10 S1 start", "20 S1 complete", *CHOPPED],
            id="another is done",
        ),
        pytest.param(
            [LEEK, "[50.0s-60.0s] simmer broth"],
            [(65, "user", "I'll have lunch while the broth is simmering.")],
            [*CHOPPED, "50 S1 start"],
            id="beyond the end of the dialog",
        ),
    ],
)
def test_what_goes_on_by_itself_behind_its_last_line(lines, turns, gold):
    assert changes(BROTH, "\n".join(lines), *turns) == gold
