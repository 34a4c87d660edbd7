"""Stems and the words that tell something."""

import pytest

from dst_dist.build.words import stem, telling, with_groups


@pytest.mark.parametrize(
    "words",
    [
        ("slice", "slices", "sliced", "slicing"),
        ("carry", "carries"),
        ("stir", "stirs", "stirred", "stirring"),
        ("roll", "rolls", "rolled", "rolling"),
        ("glass",),
        ("cut", "cuts", "cutting"),
    ],
)
def test_forms_of_a_word_have_one_stem(words):
    assert len({stem(word) for word in words}) == 1


def test_stems_of_different_words_differ():
    assert stem("ring") == "ring" and stem("bed") == "bed" and stem("glass") == "glass"


def test_spellings_of_a_word_are_one():
    assert telling("grey tyre") == telling("gray tire") and telling("fridges") == telling("refrigerator")


def test_words_that_tell_nothing_are_left_out_and_verbs_get_their_group():
    assert telling("The user is slicing the Carrots into it.") == ("slic", "carrot")
    assert with_groups("Dice it") == ["dic", "=cut"]
    assert telling("Now, you and me!") == ()
