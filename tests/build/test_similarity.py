"""What texts and steps have in common."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dst_dist.build.similarity import SENTENCES_SHARE, compare, open_similarity, tfidf
from dst_dist.build.steps import Step
from dst_dist.errors import ConfigError

STEPS = [Step(1, "Measure the oats into a jar."), Step(2, "Pour milk over the oats."), Step(3, "Slice the banana.")]


@pytest.mark.parametrize(
    ("text", "best"),
    [("scoop oats in jar", 0), ("The user adds the milk.", 1), ("banana", 2), ("cutting bananas", 2), ("MILK!", 1)],
)
def test_a_text_is_nearest_to_its_step(text, best):
    assert compare(tfidf, [text, "other words"], STEPS)[0].argmax() == best


def test_what_shares_nothing_is_zero_and_the_same_is_one():
    scores = compare(tfidf, ["answers the telephone", "Slice the banana.", "the", ""], STEPS)
    assert scores[0].max() == scores[2].max() == scores[3].max() == 0
    assert scores[1] == pytest.approx([0, 0, 1])
    assert scores.shape == (4, 3) and compare(tfidf, [], STEPS).shape == (0, 3)


def test_a_long_step_is_as_near_as_its_best_part():
    steps = [Step(1, "Prepare pork: boil the pork in water. Slice it."), Step(2, "Peel the garlic and chop it.")]
    assert compare(tfidf, ["boil the pork in water"], steps)[0, 0] == pytest.approx(1)


def test_a_step_that_repeats_others_is_a_little_less_near_than_they_are():
    scores = compare(tfidf, ["pour milk"], [*STEPS, Step(4, "Repeat steps 1-2.")])
    assert 0.9 * scores[0, 1] < scores[0, 3] < scores[0, 1]


def test_a_model_that_is_none_is_the_users_fault(tmp_path):
    with pytest.raises(ConfigError, match="--similarity"):
        open_similarity(str(tmp_path / "nothing"))


def test_a_sentence_models_cosines_are_added(monkeypatch):
    vectors = {"a": (1, 0), "b": (0, 2), "Cut.": (3, 3), "Fry.": (-1, 0)}

    class Model:
        def __init__(self, name, device):
            assert name == "some/model"

        def encode(self, texts, **_):
            return np.array([vectors[text] for text in texts], np.float32)

    util = SimpleNamespace(is_sentence_transformer_model=lambda name: True)
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Model))
    monkeypatch.setitem(sys.modules, "sentence_transformers.util", util)
    similarity = open_similarity("some/model")
    scores = compare(similarity, ["a", "b"], [Step(1, "Cut."), Step(2, "Fry.")])
    # The words have nothing in common.
    assert scores == pytest.approx(SENTENCES_SHARE * np.array([[0.5**0.5, 0], [0.5**0.5, 0]]), abs=1e-6)


def test_a_similarity_of_ones_own_is_taken():
    assert compare(lambda texts, parts: np.ones((len(texts), len(parts))), ["a"], STEPS).tolist() == [[1, 1, 1]]
