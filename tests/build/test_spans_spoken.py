"""Transitions of steps that have no annotated line; gold by hand."""

import pytest

from tests.build.found import changes

PLANT = (
    "Plant\n1. Fill the pot with soil.\n2. Dig a hole in the soil.\n3. Set the plant in the hole.\n4. Water the plant."
)
FILL, DIG = (5, "assistant", "Fill the pot with soil."), (20, "assistant", "Now dig a hole in the soil.")


@pytest.mark.parametrize(
    ("turns", "gold"),
    [
        pytest.param([FILL], ["5 S1 start"], id="no end"),
        pytest.param([FILL, DIG], ["5 S1 start", "20 S1 complete", "20 S2 start"], id="ends where the next begins"),
        pytest.param([FILL, (15, "user", "Done!"), DIG], ["5 S1 start", "15 S1 complete", "20 S2 start"], id="done"),
        pytest.param([FILL, (5, "assistant", "Well done!")], ["5 S1 start"], id="praise in one breath is no end"),
        pytest.param([FILL, (9, "user", "Filled."), DIG], ["5 S1 start", "9 S1 complete", "20 S2 start"], id="a word"),
        pytest.param([FILL, (9, "assistant", "Tell me when you are done.")], ["5 S1 start"], id="not yet done"),
        pytest.param(
            [FILL, (10, "user", "Wait, the doorbell."), (30, "user", "I'm back."), (40, "user", "It is done.")],
            ["5 S1 start", "10 S1 pause", "30 S1 resume", "40 S1 complete"],
            id="called away",
        ),
        pytest.param([FILL, (10, "user", "I'll skip the soil.")], ["5 S1 start", "10 S1 cancel"], id="given up"),
        pytest.param(
            [
                FILL,
                (12, "user", "Done."),
                (14, "assistant", "That is the wrong soil, take it out again.", "initiative|correction"),
                (18, "assistant", "Fill the pot with the other soil."),
            ],
            ["5 S1 start", "12 S1 complete", "14 S1 reset", "18 S1 start"],
            id="undone",
        ),
        pytest.param(
            [FILL, (8, "user", "When do I water the plant?"), (9, "assistant", "Water the plant at the end.")],
            ["5 S1 start"],
            id="a question about a later step",
        ),
        pytest.param(
            [FILL, (8, "user", "Shall I water the plant?"), (9, "assistant", "You water the plant in the hole.")],
            ["5 S1 start"],
            id="an answer that says no now",
        ),
        pytest.param(
            [FILL, (8, "user", "What next?"), (9, "assistant", "Dig a hole in the soil.", "responsive|instruction")],
            ["5 S1 start", "9 S1 complete", "9 S2 start"],
            id="an answer that tells",
        ),
        pytest.param(
            [(2, "assistant", "First fill the pot with soil, then we dig a hole in it.")],
            ["2 S1 start"],
            id="an overview",
        ),
        pytest.param(
            [(2, "assistant", "You fill a pot with soil.", "responsive|info_sharing")], [], id="no instruction"
        ),
        pytest.param([(2, "user", "I want to fill a pot.")], [], id="a wish"),
        pytest.param([(2, "user", "I'm digging a hole in the soil now.")], ["2 S2 start"], id="the user's own word"),
        pytest.param(
            [
                FILL,
                (20, "assistant", "While the soil is filling the pot, dig a hole in the other soil."),
                (30, "user", "The pot is filled with soil."),
            ],
            ["5 S1 start", "20 S2 start", "30 S1 complete"],
            id="goes on by itself",
        ),
    ],
)
def test_changes_of_a_dialog_without_lines(turns, gold):
    assert changes(PLANT, "", *turns) == gold


@pytest.mark.parametrize(
    ("turns", "gold"),
    [
        ([], []),
        ([(12, "assistant", "Dig a hole.")], ["12 S2 start", "20 S2 complete"]),
        ([(8, "assistant", "Dig a hole."), (12, "assistant", "Dig a hole.")], ["12 S2 start", "20 S2 complete"]),
        ([(12, "user", "Why a hole?"), (12, "assistant", "For the plant.", "responsive|info_sharing")], []),
    ],
)
def test_a_step_between_lines_takes_its_times_from_what_is_said(turns, gold):
    lines = "[1.0s-10.0s] fill pot with soil\n[20.0s-30.0s] set plant in hole"
    others = ["1 S1 start", "10 S1 complete", "20 S3 start", "30 S3 complete"]
    assert [change for change in changes(PLANT, lines, *turns) if change not in others] == gold


def test_annotated_speech_is_speech_too():
    lines = '[1.0s-10.0s] fill pot with soil\n- [12.0s] assistant: "dig a hole in the soil"\n[20.0s-30.0s] set plant in'
    assert "12 S2 start" in changes(PLANT, lines)
