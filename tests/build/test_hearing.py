"""Which steps sentences tell, and which step a cue is about."""

import pytest

from dst_dist.build.hearing import hear
from dst_dist.build.similarity import tfidf
from dst_dist.build.speech import read_sentences
from dst_dist.build.steps import Step
from tests.build.found import spoken

STEPS = [Step(1, "Fill the pot with soil."), Step(2, "Dig a hole in the soil."), Step(3, "Set the plant in the hole.")]


def heard(role: str, text: str):
    return hear(read_sentences([spoken(1.0, role, text)]), STEPS, tfidf)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Fill the pot.", [0]),
        ("Set the plant in.", [2]),
        ("Hello there.", []),
        ("Fill the pot with soil, then set the plant in the hole.", [0]),
        ("Great, then dig the hole.", [1]),
        ("Continue with digging the hole in the soil.", [1]),
        # It names no thing, so it is about the one at hand.
        ("Now fill it again.", []),
        ("Fill this pot.", [0]),
        ("Fill it with soil.", [0]),
        ("Fill.", [0]),
    ],
)
def test_what_an_instruction_tells(text, steps):
    assert [tell.step for tell in heard("assistant", text).tells] == steps


@pytest.mark.parametrize(
    ("text", "begun", "subject"),
    [
        ("I'm done.", [], None),
        ("I'm done.", [2, 0], 0),
        ("I'm done with the plant.", [2, 0], 2),
        ("The hole is done.", [0, 1], 1),
        ("I'm done with the plant.", [0], 2),
        ("Hold on, my phone is ringing.", [0, 1], 1),
        ("Let's set the plant aside.", [2, 0], 2),
        ("That's wrong, undo the plant.", [2, 0], 2),
    ],
)
def test_what_a_cue_is_about(text, begun, subject):
    (cue,) = heard("user", text).cues[:1]
    assert cue.subject(begun) == subject


@pytest.mark.parametrize(
    "text", ["Remove the wheel.", "Flip it over and undo the axle so that the wheel comes out of the frame."]
)
def test_a_cue_that_is_a_word_of_the_step_tells_it(text):
    steps = [Step(1, "Remove the wheel from the frame."), Step(2, "Pull out the old inner tube.")]
    found = hear(read_sentences([spoken(1.0, "assistant", text)]), steps, tfidf)
    assert [tell.step for tell in found.tells] == [0]
