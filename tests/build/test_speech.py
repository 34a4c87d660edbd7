"""What sentences do."""

import pytest

from dst_dist.build.evidence import Said
from dst_dist.build.speech import ALONGSIDE, BACK, DONE, GIVE_UP, HOLD, TELL, UNDO, read_sentences


def acts(role: str, text: str, labels: str = "") -> list[str | None]:
    return [sentence.act for sentence in read_sentences([Said(1.0, role, text, labels)])]


@pytest.mark.parametrize(
    ("role", "text", "found"),
    [
        ("assistant", "Cut the apple.", [TELL]),
        ("assistant", "Good. Now cut the apple.", [TELL, TELL]),
        ("assistant", "Can you cut the apple now?", [TELL]),
        ("assistant", "Is the apple cut?", [None]),
        ("assistant", "Later you will need the apple.", [None]),
        ("assistant", "While it bakes, cut the apple.", [ALONGSIDE, TELL]),
        ("assistant", "Break the eggs.", [TELL]),
        ("assistant", "Remove the lid.", [TELL]),
        ("assistant", "That is wrong. Remove the lid.", [TELL, UNDO]),
        ("user", "I want to cut apples.", [None]),
        ("user", "I'm cutting the apple.", [TELL]),
        ("user", "What is next?", [None]),
        ("user", "Hold on, my phone is ringing.", [HOLD]),
        ("user", "I need a break.", [HOLD]),
        ("user", "Okay, I'm back.", [BACK]),
        ("user", "Let's carry on.", [BACK]),
        ("user", "I give up.", [GIVE_UP]),
        ("user", "Let's skip the garnish.", [GIVE_UP]),
        ("user", "I'm done.", [DONE]),
        ("user", "I've cut the apple.", [DONE]),
        ("user", "I peeled all the apples.", [DONE]),
        ("user", "Got it, it's on the plate.", [DONE]),
        ("user", "I've got a shelf to build.", [None]),
        ("assistant", "The back panel is next.", [TELL]),
        ("user", "The panel is screwed on.", [DONE]),
        ("user", "I need to peel an apple.", [None]),
        ("user", "The apples are peeled.", [DONE]),
        ("user", "I'm not done yet.", [None]),
        ("user", "Nearly finished.", [None]),
        ("user", "Thanks", [None]),
        ("user", "I\u2019m back.", [BACK]),
    ],
)
def test_what_a_sentence_does(role, text, found):
    assert acts(role, text) == found


@pytest.mark.parametrize(
    ("labels", "act"),
    [("initiative|instruction", TELL), ("responsive|feedback,instruction", TELL), ("responsive|info_sharing", None)],
)
def test_labels_say_what_is_an_instruction(labels, act):
    assert acts("assistant", "Cut the apple.", labels) == [act]


def test_an_answer_knows_its_question_and_only_the_next_turn_is_one():
    said = [Said(1.0, "user", "And the milk?"), Said(1.0, "assistant", "Later."), Said(2.0, "assistant", "Stir.")]
    assert [sentence.answers for sentence in read_sentences(said)] == ["", "And the milk?", ""]
