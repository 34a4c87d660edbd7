"""Replies compared by a real sentence model, all-MiniLM-L6-v2, from a package that carries its weights."""

import json

import numpy as np
import pytest

from dst_dist.errors import ConfigError
from dst_dist.measure.replies import count_replies, match_replies, window_of
from dst_dist.measure.similarity import lexical, open_similarity

pytestmark = pytest.mark.long

WINDOW = window_of("assembly101")
PARAPHRASES = [
    ("Great, now attach the wheel to the front axle.", "Good, next put the wheel onto the axle at the front."),
    ("You have finished building the toy truck!", "Well done, the toy truck is complete."),
    ("Pour the hot water into the mug.", "Fill the cup with boiling water."),
    ("Use the screwdriver to tighten the screw.", "Tighten that screw with your screwdriver."),
]
CONTRADICTIONS = [
    ("Attach the wheel to the axle.", "Do not attach the wheel to the axle."),
    ("Tighten the screw before you turn the chassis.", "Turn the chassis before you tighten the screw."),
    ("Yes, that is the right part.", "No, that is not the right part."),
]
UNRELATED = [
    ("Attach the wheel to the axle.", "The coffee beans should be ground finely."),
    ("Pour the hot water into the mug.", "You need a larger hammer for that nail."),
]


@pytest.fixture(scope="module")
def similarity(sentence_model):
    # The variable is read when the hub's client is first imported; a folder needs no hub either way.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return open_similarity(str(sentence_model))


@pytest.fixture(scope="module")
def stock(sentence_model):
    """The cosines that sentence-transformers itself gives, float32 [texts, texts]."""
    from sentence_transformers import SentenceTransformer, util

    model = SentenceTransformer(str(sentence_model), device="cpu")

    def cosine(a: str, b: str) -> float:
        return util.cos_sim(model.encode(a), model.encode(b)).item()

    return cosine


def test_the_name_is_the_models(similarity, sentence_model):
    assert similarity.name == str(sentence_model)


def test_cosines_are_the_models_own(similarity, stock):
    pairs = [*PARAPHRASES, *CONTRADICTIONS, *UNRELATED]
    ours = similarity.cosines(*zip(*pairs, strict=True))
    print(
        "\n".join(
            f"{ours[i, i]:.3f}  {gold_text}  |  {predicted_text}" for i, (gold_text, predicted_text) in enumerate(pairs)
        )
    )
    assert ours.dtype == np.float64
    np.testing.assert_allclose([ours[i, i] for i in range(len(pairs))], [stock(*pair) for pair in pairs], atol=2e-6)


def test_paraphrases_are_correct_matches_which_words_alone_do_not_show(similarity):
    gold = [(10.0 * i, gold_text) for i, (gold_text, _) in enumerate(PARAPHRASES)]
    predicted = [(10.0 * i + 1, predicted_text) for i, (_, predicted_text) in enumerate(PARAPHRASES)]
    assert count_replies(gold, predicted, WINDOW, similarity)["reply/correct"] == len(PARAPHRASES)
    assert count_replies(gold, predicted, WINDOW, lexical())["reply/correct"] < len(PARAPHRASES)


def test_replies_about_other_things_are_not(similarity):
    for gold_text, predicted_text in UNRELATED:
        counts = count_replies([(1.0, gold_text)], [(1.0, predicted_text)], WINDOW, similarity)
        assert (counts["reply/matched"], counts["reply/correct"]) == (1, 0)


def test_a_contradiction_counts_as_the_model_says(similarity, stock):
    for gold_text, predicted_text in CONTRADICTIONS:
        [match] = match_replies([(1.0, gold_text)], [(1.5, predicted_text)], WINDOW, similarity)
        assert (
            match.similarity == pytest.approx(abs(stock(gold_text, predicted_text)), abs=2e-6) and match.similarity < 1
        )
        assert match.is_correct == (abs(stock(gold_text, predicted_text)) > 0.5)


def test_of_two_replies_the_paraphrase_matches_and_not_the_contradiction(similarity):
    gold_text, contradiction = CONTRADICTIONS[0]
    meant = "Put the wheel on the axle."
    assert lexical().cosines([gold_text], [contradiction]) > lexical().cosines([gold_text], [meant])
    predicted = [(9.0, contradiction), (9.0, meant)]
    assert match_replies([(10.0, gold_text)], predicted, WINDOW, lexical())[0].predicted == 0
    assert match_replies([(10.0, gold_text)], predicted, WINDOW, similarity)[0].predicted == 1


def test_equal_texts_cost_nothing_whatever_shares_their_batch(similarity, sentence_model):
    texts = [text for pair in [*PARAPHRASES, *CONTRADICTIONS, *UNRELATED] for text in pair]
    together = similarity.cosines(texts, texts)
    assert set(np.diag(together)) == {1.0}
    alone = open_similarity(str(sentence_model))
    one_by_one = np.array([[alone.cosines([a], [b])[0, 0] for b in texts[:4]] for a in texts[:4]])
    np.testing.assert_allclose(one_by_one, together[:4, :4], atol=1.5e-6)


def test_a_folder_that_is_no_sentence_model_is_an_error(sentence_model, tmp_path):
    # The same weights without the list of modules: sentence-transformers alone would average the tokens of any model.
    for file in sentence_model.iterdir():
        if file.is_file() and file.name != "modules.json":
            (tmp_path / file.name).symlink_to(file)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    with pytest.raises(ConfigError, match=r"no sentence-transformers model.*no modules\.json"):
        open_similarity(str(tmp_path))
    with pytest.raises(ConfigError, match=r"eval\.similarity: /no/such/folder"):
        open_similarity("/no/such/folder")
