"""What sentences do."""

import pytest

from dst_dist.build.speech import ALONGSIDE, BACK, DONE, GIVE_UP, HOLD, TELL, UNDO, read_sentences, without_cue
from tests.build.found import spoken


def acts(role: str, text: str, labels: str = "") -> list[str | None]:
    return [sentence.act for sentence in read_sentences([spoken(1.0, role, text, labels)])]


@pytest.mark.parametrize(
    ("role", "text", "found"),
    [
        ("assistant", "Cut the apple.", [TELL]),
        ("assistant", "Good. Now cut the apple.", [TELL, TELL]),
        ("assistant", "Can you cut the apple now?", [TELL]),
        ("assistant", "Is the apple cut?", [None]),
        ("assistant", "Later you will need the apple.", [None]),
        ("assistant", "While it bakes, cut the apple.", [ALONGSIDE, TELL]),
        ("assistant", "While it bakes you can cut the apple.", [ALONGSIDE, TELL]),
        ("assistant", "Sure, you can cut the apple while it bakes.", [ALONGSIDE, TELL]),
        ("assistant", "Then cut the apple in the meantime.", [ALONGSIDE, TELL]),
        ("assistant", "Meanwhile, cut the apple.", [ALONGSIDE, TELL]),
        ("assistant", "It bakes by itself.", [ALONGSIDE]),
        ("assistant", "Stir it for a while.", [TELL]),
        ("assistant", "Stir it for a little while, then taste it.", [TELL]),
        ("assistant", "Put the lid on loosely for now.", [TELL]),
        ("assistant", "Leave the lid off for now.", [HOLD]),
        ("user", "I'm leaving the lid off for now.", [HOLD]),
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
        ("user", "I'll wash the pan after dinner.", [None]),
        ("assistant", "The oil is hot now.", [DONE]),
        ("assistant", "Now the glue is quite dry.", [DONE]),
        ("assistant", "The toast looks just right.", [DONE]),
        ("assistant", "The water has boiled.", [DONE]),
        ("user", "Okay, the lid is closed.", [DONE]),
        ("assistant", "The light is on, so the machine is hot now.", [DONE]),
        ("assistant", "Meanwhile, the oil is hot.", [ALONGSIDE, DONE]),
        ("assistant", "Meanwhile...", [ALONGSIDE]),
        ("assistant", "Wait until the oil is hot.", [TELL]),
        ("assistant", "Now wait until the oil is hot.", [TELL]),
        ("assistant", "Now stir until the sauce is smooth.", [TELL]),
        ("assistant", "Now check that the shelf is level.", [TELL]),
        ("assistant", "Now the lid that is on the table goes on the pot.", [TELL]),
        ("assistant", "The dough needs to rest until it has doubled.", [TELL]),
        ("assistant", "The oil is nearly hot.", [TELL]),
        ("assistant", "The wrench is right next to the box.", [TELL]),
        ("assistant", "The box has red wires.", [TELL]),
        ("user", "I'll tie a knot at the end of the rope.", [TELL]),
        ("assistant", "The oil is hot before you notice.", [None]),
        ("user", "I've cut the apple.", [DONE]),
        ("user", "I peeled all the apples.", [DONE]),
        ("user", "Got it, it's on the plate.", [DONE]),
        ("user", "I've got a shelf to build.", [None]),
        ("assistant", "The back panel is next.", [TELL]),
        ("user", "The panel is screwed on.", [DONE]),
        ("user", "I need to peel an apple.", [None]),
        ("user", "The apples are peeled.", [DONE]),
        ("user", "Peeled.", [DONE]),
        ("user", "Okay, both peeled!", [DONE]),
        ("user", "All peeled!", [DONE]),
        ("user", "Agreed.", [None]),
        ("user", "The red.", [None]),
        ("assistant", "Peeled.", [TELL]),
        ("user", "I'm not done yet.", [None]),
        ("user", "Nearly finished.", [None]),
        ("user", "Thanks", [None]),
        ("user", "I\u2019m back.", [BACK]),
        ("user", "Let's set the bowl aside.", [HOLD]),
        ("user", "We'll come back to the bowl later.", [HOLD]),
    ],
)
def test_what_a_sentence_does(role, text, found):
    assert acts(role, text) == found


@pytest.mark.parametrize("word", ["Before", "After", "Once", "When", "As soon as", "If", "But before", "And once"])
def test_what_comes_before_or_after_is_no_part_of_an_instruction(word):
    (sentence,) = read_sentences([spoken(1.0, "assistant", f"{word} you pour the milk, cut the apple.")])
    assert (sentence.text, sentence.act) == ("cut the apple.", TELL)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("I give up on the bulb.", "I on the bulb."),
        ("Let's set the bulb aside.", "Let's the bulb aside."),
        ("We'll come back to the bulb later.", "We'll the bulb later."),
        ("I'll leave the bulb unfinished.", "I'll the bulb unfinished."),
        ("That's wrong, undo the bulb.", "That's , the bulb."),
        ("That's wrong, take the bulb off.", "That's , the bulb off."),
    ],
)
def test_a_cue_leaves_the_thing_that_it_is_about(text, left):
    sentence = read_sentences([spoken(1.0, "user", text)])[-1]
    assert without_cue(sentence).split() == left.split()


@pytest.mark.parametrize(
    ("labels", "act"),
    [("initiative|instruction", TELL), ("responsive|feedback,instruction", TELL), ("responsive|info_sharing", None)],
)
def test_labels_say_what_is_an_instruction(labels, act):
    assert acts("assistant", "Cut the apple.", labels) == [act]


def test_an_answer_knows_its_question_and_only_the_next_turn_is_one():
    said = [spoken(1.0, "user", "And the milk?"), spoken(1.0, "assistant", "Later."), spoken(2.0, "assistant", "Stir.")]
    assert [sentence.answers for sentence in read_sentences(said)] == ["", "And the milk?", ""]


@pytest.mark.parametrize(
    ("text", "labels", "found"),
    [
        ("Cut it again.", "", (True, False)),
        ("That is wrong.", "", (True, True)),
        ("A bit thinner.", "initiative|correction", (True, True)),
        ("Cut it.", "", (False, False)),
    ],
)
def test_what_is_done_again_need_be_no_mistake(text, labels, found):
    (sentence,) = read_sentences([spoken(1.0, "assistant", text, labels)])
    assert (sentence.is_wrong, sentence.is_mistake) == found
