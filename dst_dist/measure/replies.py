"""Matching of predicted with gold replies after ProAssist's rule, and the metrics that follow.

A pair costs 1 - |cosine| + 0.3 (|dt| / widest side of the window) ** 1.5, and may be matched only inside the dataset's
window. In ProAssist's matching a predicted reply may also take a frame without a gold reply. That costs 1, so a pair
that costs more stays apart: one missing, one redundant. The matching is the cheapest of all.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dst_dist.data.clips import CLOCK_ERROR_S
from dst_dist.measure.decisions import Metrics, precision_recall_f1, ratios
from dst_dist.measure.similarity import Similarity

Reply = tuple[float, str]
"""Seconds, text."""

SILENCE_COST = 1.0
TIME_COST, TIME_POWER = 0.3, 1.5
CORRECT_ABOVE = 0.5
"""Similarity above which a matched pair is correct."""
TIE = 1e-9
"""A pair that costs as much as silence is matched."""


@dataclass(frozen=True)
class Window:
    """Seconds that a gold reply may be before and after the predicted one; `name` is part of its datasets' names."""

    before_s: float
    after_s: float
    name: str


WINDOWS = (
    Window(2.5, 2.5, "narration"),
    Window(4.0, 8.5, "ego4d"),
    Window(1.5, 3.0, "epickitchens"),
    Window(1.5, 2.5, "holoassist"),
    Window(2.0, 3.5, "egoexolearn"),
    Window(2.0, 4.0, "assembly101"),
    Window(3.0, 6.0, "wtag"),
)
"""ProAssist's: half of the mean time between replies on the later side, a quarter on the earlier one. Narration comes
first: it has the same window in every dataset."""
DEFAULT_WINDOW = Window(2.5, 2.5, "default")


def window_of(dataset: str) -> Window:
    """Return the first window whose name is part of the dataset's name, or ProAssist's default."""
    return next((window for window in WINDOWS if window.name in dataset.lower()), DEFAULT_WINDOW)


class Match(NamedTuple):
    """A pair by its positions among the gold and the predicted replies, and its |cosine|."""

    gold: int
    predicted: int
    similarity: float

    @property
    def is_correct(self) -> bool:
        return self.similarity > CORRECT_ABOVE


def match_replies(
    gold: Sequence[Reply], predicted: Sequence[Reply], window: Window, similarity: Similarity
) -> list[Match]:
    """Return the cheapest one-to-one matching of a clip's replies, by time of the gold reply; input in any order."""
    if not gold or not predicted:
        return []
    # Among equally cheap matchings the solver's choice depends on the order of its input.
    rows, columns = (sorted(range(len(side)), key=side.__getitem__) for side in (gold, predicted))
    alike = np.abs(similarity.cosines([gold[row][1] for row in rows], [predicted[column][1] for column in columns]))
    apart_s = np.subtract.outer([gold[row][0] for row in rows], [predicted[column][0] for column in columns])
    inside = (apart_s >= -window.before_s - CLOCK_ERROR_S) & (apart_s <= window.after_s + CLOCK_ERROR_S)
    cost = 1 - alike + TIME_COST * (np.abs(apart_s) / max(window.before_s, window.after_s)) ** TIME_POWER
    saved = np.where(inside, np.maximum(SILENCE_COST + TIE - cost, 0), 0)
    pairs = zip(*linear_sum_assignment(saved, maximize=True), strict=True)
    return [Match(rows[i], columns[j], float(alike[i, j])) for i, j in pairs if saved[i, j] > 0]


def count_replies(
    gold: Sequence[Reply], predicted: Sequence[Reply], window: Window, similarity: Similarity
) -> dict[str, int]:
    """Return the counts of one clip's replies, which add up over clips, for `reply_metrics`.

    Those of BLEU are about the correct pairs' texts: the numbers of gold and predicted words, and of equal and all
    n-grams for n from 1 to 4; zeros without sacrebleu.
    """
    matches = match_replies(gold, predicted, window, similarity)
    correct = [match for match in matches if match.is_correct]
    texts = [(gold[match.gold][1], predicted[match.predicted][1]) for match in correct]
    of_bleu = (0,) * 10
    if texts and importlib.util.find_spec("sacrebleu") is not None:
        from sacrebleu.metrics import BLEU

        score = BLEU(force=True).corpus_score([text for _, text in texts], [[text for text, _ in texts]])
        of_bleu = (score.ref_len, score.sys_len, *score.counts, *score.totals)
    return {
        "reply/matched": len(matches),
        "reply/correct": len(correct),
        "reply/missed": len(gold) - len(matches),
        "reply/redundant": len(predicted) - len(matches),
    } | {f"reply/bleu/{place}": number for place, number in enumerate(of_bleu)}


def reply_metrics(sums: Mapping[str, float]) -> Metrics:
    """Return the metrics `reply/*` of `count_replies` added up over clips; none if nothing was compared."""
    names = ("matched", "correct", "missed", "redundant")
    matched, correct, missed, redundant = (sums.get(f"reply/{name}", 0) for name in names)
    gold, predicted = matched + missed, matched + redundant
    parts = precision_recall_f1(correct, predicted, gold) | {
        "jaccard": (correct, matched + missed + redundant),
        "missing": (missed, gold),
        "redundant": (redundant, predicted),
    }
    metrics = ratios(parts, "reply/")
    if sums.get("reply/bleu/0"):
        from sacrebleu.metrics import BLEU

        words_gold, words_predicted, *ngrams = (int(sums[f"reply/bleu/{place}"]) for place in range(10))
        # What `corpus_bleu` gives on all the texts that were counted.
        bleu = BLEU.compute_bleu(ngrams[:4], ngrams[4:], words_predicted, words_gold, smooth_method="exp")
        metrics["reply/bleu"] = float(bleu.score)
    return metrics
