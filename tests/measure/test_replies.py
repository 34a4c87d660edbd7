"""Matching of replies, worked out by hand after ProAssist's rule, and its metrics."""

import itertools
import random
import sys
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from dst_dist.measure.replies import Window, count_replies, match_replies, reply_metrics, window_of
from dst_dist.measure.similarity import Similarity, lexical

WINDOW = Window(2.0, 4.0, "a quarter and a half")
KEYS = {f"reply/{name}" for name in ("precision", "recall", "f1", "jaccard", "missing", "redundant")}


class TableOfCosines(Similarity):
    """Cosines from a table of pairs of texts; 0 for a pair that is not in it."""

    def __init__(self, cosines: dict[str, float]):
        super().__init__("table", list, np.outer)
        self._cosines = cosines

    def cosines(self, gold, predicted):
        return np.array([[self._cosines.get(a + b, 0.0) for b in predicted] for a in gold])


def pairs(gold, predicted, cosines, window=WINDOW):
    return [(match.gold, match.predicted) for match in match_replies(gold, predicted, window, TableOfCosines(cosines))]


def totals(counts):
    return tuple(counts[f"reply/{name}"] for name in ("matched", "correct", "missed", "redundant"))


@pytest.mark.parametrize(
    ("dataset", "before_s", "after_s"),
    [
        ("ego4d", 4, 8.5),
        ("epickitchens", 1.5, 3),
        ("holoassist", 1.5, 2.5),
        ("egoexolearn", 2, 3.5),
        ("Assembly101-dst", 2, 4),
        ("my_wtag", 3, 6),
        ("ego4d_narration", 2.5, 2.5),
        ("another", 2.5, 2.5),
    ],
)
def test_a_pair_is_matched_up_to_both_edges_of_its_datasets_window(dataset, before_s, after_s):
    window = window_of(dataset)
    assert window.name in dataset.lower() or window.name == "default"
    for gold_s, expected in ((-before_s, 1), (after_s, 1), (-before_s - 0.01, 0), (after_s + 0.01, 0)):
        assert len(pairs([(20 + gold_s, "a")], [(20, "b")], {"ab": 1.0}, window)) == expected, gold_s


def test_a_rounded_time_does_not_move_the_edge():
    gold_s, predicted_s = 83 / 10, 43 / 10
    assert gold_s - predicted_s > 4, "otherwise this shows nothing"
    assert pairs([(gold_s, "a")], [(predicted_s, "b")], {"ab": 1.0}) == [(0, 0)]


@pytest.mark.parametrize(
    ("apart_s", "costs"),
    # 0.3 (1/4) ** 1.5, 0.3 (2/4) ** 1.5, 0.3 (3/4) ** 1.5; the widest side counts on the other side too.
    [(1, 0.0375), (2, 0.10607), (3, 0.19486), (-2, 0.10607)],
)
def test_being_apart_costs(apart_s, costs):
    gold, predicted = [(10, "n"), (10 + apart_s, "f")], [(10, "x")]
    # The near one costs 0.4, so the far one is taken where its text costs less than that and the time.
    assert pairs(gold, predicted, {"nx": 0.6, "fx": 0.6 + costs + 0.0005}) == [(1, 0)]
    assert pairs(gold, predicted, {"nx": 0.6, "fx": 0.6 + costs - 0.0005}) == [(0, 0)]


def test_being_apart_is_measured_by_the_widest_side_whichever_that_is():
    # 2 s cost 0.10607 where either side is 4 s.
    for window in (WINDOW, Window(4.0, 2.0, "mirrored")):
        assert pairs([(12, "a")], [(10, "b")], {"ab": 0.107}, window) == [(0, 0)]
        assert pairs([(12, "a")], [(10, "b")], {"ab": 0.105}, window) == []


def test_of_equal_texts_the_nearest_in_time_is_taken():
    assert pairs([(8.5, "a"), (11, "a"), (12, "a")], [(10, "b")], {"ab": 0.9}) == [(1, 0)]


def test_a_pair_that_costs_more_than_silence_stays_apart():
    # 2 s cost 0.10607: with a cosine of 0.107 the pair costs 0.99907, with 0.105 it costs 1.00107.
    assert totals(count_replies([(12, "a")], [(10, "b")], WINDOW, TableOfCosines({"ab": 0.107}))) == (1, 0, 0, 0)
    assert totals(count_replies([(12, "a")], [(10, "b")], WINDOW, TableOfCosines({"ab": 0.105}))) == (0, 0, 1, 1)


def test_unlike_replies_at_the_same_instant_are_matched_but_not_correct():
    assert totals(count_replies([(10, "a")], [(10, "b")], WINDOW, TableOfCosines({}))) == (1, 0, 0, 0)


def test_the_same_text_at_the_same_instant_costs_nothing_and_is_kept():
    counts = count_replies([(1, "Turn it."), (1.5, "Stop.")], [(1.5, "Stop."), (1, "Turn it.")], WINDOW, lexical())
    assert totals(counts) == (2, 2, 0, 0)


def test_the_sign_of_a_cosine_does_not_count():
    [match] = match_replies([(12, "a"), (12, "c")], [(10, "b")], WINDOW, TableOfCosines({"ab": -0.8, "cb": 0.7}))
    assert (match.gold, match.similarity, match.is_correct) == (0, 0.8, True)


@pytest.mark.parametrize(("cosine", "correct"), [(0.5, 0), (0.501, 1), (-0.501, 1)])
def test_a_match_is_correct_above_a_half(cosine, correct):
    assert totals(count_replies([(10, "a")], [(10, "b")], WINDOW, TableOfCosines({"ab": cosine}))) == (1, correct, 0, 0)


def test_the_whole_matching_is_cheapest_not_its_best_pair():
    # ax alone is the best pair, but leaves b and y 0.1 alike: 0.0 + 0.9 against 0.2 + 0.2.
    cosines = {"ax": 1.0, "ay": 0.8, "bx": 0.8, "by": 0.1}
    assert pairs([(10, "a"), (10, "b")], [(10, "x"), (10, "y")], cosines) == [(0, 1), (1, 0)]


def test_one_pair_may_be_cheaper_than_two():
    # At 2 s: ax alone saves 1 - 0.10607; ay and bx together save 0.4 + 0.4 - 2 * 0.10607.
    cosines = {"ax": 1.0, "ay": 0.4, "bx": 0.4}
    assert pairs([(12, "a"), (12, "b")], [(10, "x"), (10, "y")], cosines) == [(0, 0)]


def random_replies(rng, letters):
    return [(rng.randrange(24) / 2, rng.choice(letters)) for _ in range(rng.randrange(5))]


def random_case(rng):
    cosines = {a + b: rng.choice([-0.9, 0.0, 0.3, 0.6, 1.0, rng.random()]) for a in "abcd" for b in "wxyz"}
    return random_replies(rng, "abcd"), random_replies(rng, "wxyz"), cosines


def cost(gold, predicted, cosines):
    apart_s = gold[0] - predicted[0]
    return 1 - abs(cosines[gold[1] + predicted[1]]) + 0.3 * (abs(apart_s) / 4) ** 1.5 if -2 <= apart_s <= 4 else np.inf


def cheapest(gold, predicted, cosines):
    """Return the least cost over every way of giving each predicted reply a gold reply or silence, which costs 1."""
    choices = [*range(len(gold)), *[None] * len(predicted)]
    ways = itertools.permutations(choices, len(predicted))
    return min(
        sum(1 if i is None else cost(gold[i], reply, cosines) for i, reply in zip(way, predicted, strict=True))
        for way in ways
    )


def test_no_matching_is_cheaper():
    rng, sizes = random.Random(0), Counter()
    for _ in range(150):
        gold, predicted, cosines = random_case(rng)
        found = pairs(gold, predicted, cosines)
        total = sum(cost(gold[i], predicted[j], cosines) for i, j in found) + len(predicted) - len(found)
        assert total == pytest.approx(cheapest(gold, predicted, cosines), abs=1e-8)
        assert len({i for i, _ in found}) == len({j for _, j in found}) == len(found)
        sizes[len(found)] += 1
    assert set(sizes) >= {0, 1, 2, 3}, "otherwise the cases were too easy"


def test_the_order_of_replies_does_not_matter():
    rng = random.Random(1)
    for _ in range(100):
        gold, predicted, cosines = random_case(rng)
        shuffled = [rng.sample(side, len(side)) for side in (gold, predicted)]
        here, there = (
            [
                (g[match.gold], p[match.predicted], match.similarity)
                for match in match_replies(g, p, WINDOW, TableOfCosines(cosines))
            ]
            for g, p in ((gold, predicted), shuffled)
        )
        assert here == there


def test_the_choice_among_equally_cheap_matchings_does_not_depend_on_order():
    # ax and by save 0.5 and 0.75, bx and ay 0.25 and 1: as much, but one more correct pair the first way or not.
    cosines = {"ax": 0.5, "by": 0.75, "bx": 0.25, "ay": 1.0}
    gold, predicted = [(10, "a"), (10, "b")], [(10, "x"), (10, "y")]
    counts = {
        tuple(count_replies(g, p, WINDOW, TableOfCosines(cosines)).items())
        for g in (gold, gold[::-1])
        for p in (predicted, predicted[::-1])
    }
    assert len(counts) == 1


GOLD = [(10, "a"), (20, "b"), (30, "c"), (40, "d")]
PREDICTED = [(11, "w"), (19, "x"), (50, "y")]
"""w is like a, 1 s late; x is unlike b, 1 s early; y has no gold reply near it; c and d are missed."""
COSINES = {"aw": 0.9, "bx": 0.4}


def test_a_clip_worked_out_by_hand():
    counts = count_replies(GOLD, PREDICTED, WINDOW, TableOfCosines(COSINES))
    assert totals(counts) == (2, 1, 2, 1)
    metrics = reply_metrics(counts)
    metrics.pop("reply/bleu", None)
    assert metrics == pytest.approx(
        {
            "reply/precision": 1 / 3,
            "reply/recall": 1 / 4,
            "reply/f1": 2 / 7,
            "reply/jaccard": 1 / 5,
            "reply/missing": 2 / 4,
            "reply/redundant": 1 / 3,
        }
    )


def test_scores_are_those_of_scikit_learn():
    # Items: a and w together; b, c, d only gold; x, y only predicted.
    gold, predicted = [1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 1, 1]
    theirs = precision_recall_fscore_support(gold, predicted, average="binary")[:3]
    metrics = reply_metrics(count_replies(GOLD, PREDICTED, WINDOW, TableOfCosines(COSINES)))
    assert [metrics[f"reply/{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(theirs)


def test_metrics_that_do_not_apply_are_absent():
    def keys(gold, predicted):
        return set(reply_metrics(count_replies(gold, predicted, WINDOW, TableOfCosines({}))))

    assert keys([], []) == set()
    assert keys([(1, "a")], []) == {"reply/recall", "reply/missing", "reply/f1", "reply/jaccard"}
    assert keys([], [(1, "b")]) == {"reply/precision", "reply/redundant", "reply/f1", "reply/jaccard"}
    assert keys([(1, "a")], [(1, "b")]) == KEYS


def test_a_silent_model_misses_everything_and_a_talkative_one_is_redundant():
    silent, alone = (
        reply_metrics(count_replies(g, p, WINDOW, TableOfCosines({}))) for g, p in ((GOLD, []), ([], PREDICTED))
    )
    assert (silent["reply/recall"], silent["reply/missing"], silent["reply/f1"], silent["reply/jaccard"]) == (
        0,
        1,
        0,
        0,
    )
    assert (alone["reply/precision"], alone["reply/redundant"], alone["reply/f1"], alone["reply/jaccard"]) == (
        0,
        1,
        0,
        0,
    )


CLIPS = [
    ([(1, "Put the small wheel on the axle.")], [(1, "Place the small wheel on the axle, please.")]),
    (
        [(1, "Now turn the screw until it is tight."), (9, "Well done.")],
        [(2, "Now turn the screw until it holds."), (9, "No.")],
    ),
    ([(5, "Nothing is alike.")], [(5, "Here!")]),
]


def sums_of(clips, weights):
    sums = Counter()
    for (gold, predicted), weight in zip(clips, weights, strict=True):
        for name, value in count_replies(gold, predicted, WINDOW, lexical()).items():
            sums[name] += weight * value
    return sums


def test_bleu_of_weighted_clips_is_sacrebleus_on_their_correct_pairs():
    sacrebleu = pytest.importorskip("sacrebleu", reason="no sacrebleu: pip install 'dst-dist[replies]'")
    gold = [CLIPS[0][0][0][1]] * 2 + [CLIPS[1][0][0][1]] * 3
    predicted = [CLIPS[0][1][0][1]] * 2 + [CLIPS[1][1][0][1]] * 3
    theirs = sacrebleu.corpus_bleu(predicted, [gold]).score
    assert 30 < theirs < 80, "pairs that tell one number from another"
    sums = sums_of(CLIPS, [2.0, 3.0, 4.0])
    assert sums["reply/correct"] == 5 and sums["reply/matched"] == 2 + 6 + 4
    assert reply_metrics(sums)["reply/bleu"] == pytest.approx(theirs, abs=1e-9)


def test_bleu_of_pairs_without_a_longest_ngram_is_smoothed_as_sacrebleu_does():
    sacrebleu = pytest.importorskip("sacrebleu", reason="no sacrebleu: pip install 'dst-dist[replies]'")
    clip = ([(1, "turn the red screw left")], [(1, "turn the screw left")])
    theirs = sacrebleu.corpus_bleu([clip[1][0][1]], [[clip[0][0][1]]]).score
    assert theirs > 0
    assert reply_metrics(sums_of([clip], [1]))["reply/bleu"] == pytest.approx(theirs, abs=1e-9)


def test_without_sacrebleu_or_a_correct_pair_there_is_no_bleu(monkeypatch):
    assert "reply/bleu" not in reply_metrics(sums_of(CLIPS, [0, 0, 1]))
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert set(reply_metrics(sums_of(CLIPS, [1, 1, 1]))) == KEYS


def test_counts_are_whole_numbers():
    counts = count_replies(*CLIPS[0], WINDOW, lexical())
    assert {type(value) for value in counts.values()} == {int}
