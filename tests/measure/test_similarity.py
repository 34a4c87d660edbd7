"""Similarity of two texts, by hand and against scikit-learn; tests/real has sentence models."""

import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from dst_dist.measure.similarity import Similarity, lexical, open_similarity

TEXTS = [
    "Put the small wheel on the axle.",
    "Place the small wheel on the axle, please.",
    "Now turn the screw until it is tight.",
    "Well done.",
    "Now turn the screw until it holds.",
    "No.",
    "Nothing is alike.",
    "Here!",
]


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("Turn the screw.", "turn, the SCREW!", 1.0),
        ("Turn the screw.", "screw the turn turn", 1.0),
        ("Turn the red screw.", "Turn", 1 / 2),  # 1 / sqrt(4 * 1)
        ("Turn the red screw.", "Take the jar.", 1 / 12**0.5),
        ("Turn", "Stop", 0.0),
        ("...", " ...", 1.0),
        ("...", "!", 0.0),
        ("", "Stop", 0.0),
        ("Straße", "STRASSE", 1.0),
    ],
)
def test_lexical_similarity_by_hand(gold, predicted, expected):
    assert lexical().cosines([gold], [predicted])[0, 0] == pytest.approx(expected)


def test_lexical_similarity_is_that_of_scikit_learn():
    theirs = cosine_similarity(CountVectorizer(binary=True, token_pattern=r"\w+").fit_transform(TEXTS))
    np.testing.assert_allclose(lexical().cosines(TEXTS, TEXTS), theirs, atol=1e-12)
    assert set(np.diag(lexical().cosines(TEXTS, TEXTS))) == {1.0}, "exactly"


def test_a_text_is_read_once():
    batches = []

    words = lexical()

    def read(texts):
        batches.append(texts)
        return words._read(texts)

    similarity = Similarity("counted", read, words._compare)
    similarity.prepare(["a b", "c", "a b"])
    assert similarity.cosines(["a b", "d"], ["c", "a b"]).tolist() == [[0, 1], [0, 0]]
    similarity.cosines(["d"], ["c"])
    assert similarity.cosines([], ["e"]).shape == (0, 1)
    assert batches == [["a b", "c"], ["d"]]


def test_lexical_similarity_needs_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert open_similarity("lexical").name == "lexical"
