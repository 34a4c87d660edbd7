"""Which written reply answers to which of the told ones, after ProAssist's rule, and the measures that follow.

A pair costs 1 - |cosine| + 0.3 (|dt| / widest side of the window) ** 1.5, and may be matched only inside the dataset's
window. In ProAssist's matching a written reply may also take a frame at which nothing is told: that costs 1 at its own
instant, so a pair that costs more stays apart (one missed, one redundant). The matching is the cheapest of all.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dst_dist.data.clips import CLOCK_ERROR_S
from dst_dist.measure.decisions import Metrics
from dst_dist.measure.similarity import Similarity

Reply = tuple[float, str]
"""Seconds, text."""

SILENCE_COST = 1.0
TIME_COST, TIME_POWER = 0.3, 1.5
CORRECT_ABOVE = 0.5
"""Similarity."""
TIE = 1e-9
"""A pair that costs as much as silence is matched."""
NGRAMS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Window:
    """Seconds that the told reply may stand before and after the written one; `name` says whose window it is."""

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
"""ProAssist's, a half of the mean time between replies to the later side and a quarter to the earlier one; a narration
of any dataset has a narration's."""
DEFAULT_WINDOW = Window(2.5, 2.5, "default")


def window_of(dataset: str) -> Window:
    """The first window whose name is part of the dataset's name; ProAssist's default for any other."""
    return next((window for window in WINDOWS if window.name in dataset.lower()), DEFAULT_WINDOW)


class Match(NamedTuple):
    """A pair by its places among the told (`gold`) and the written (`predicted`) replies, and its |cosine|."""

    gold: int
    predicted: int
    similarity: float

    @property
    def is_correct(self) -> bool:
        return self.similarity > CORRECT_ABOVE


def match_replies(
    gold: Sequence[Reply], predicted: Sequence[Reply], window: Window, similarity: Similarity
) -> list[Match]:
    """The cheapest matching of a clip's replies, each in one pair at most; in order of time, whatever order they come in."""
    if not gold or not predicted:
        return []
    # Among equally cheap matchings the solver takes one by its order.
    rows, columns = (
        sorted(range(len(gold)), key=gold.__getitem__),
        sorted(range(len(predicted)), key=predicted.__getitem__),
    )
    alike = np.abs(similarity.cosines([gold[row][1] for row in rows], [predicted[column][1] for column in columns]))
    apart_s = np.subtract.outer([gold[row][0] for row in rows], [predicted[column][0] for column in columns])
    inside = (apart_s >= -window.before_s - CLOCK_ERROR_S) & (apart_s <= window.after_s + CLOCK_ERROR_S)
    cost = 1 - alike + TIME_COST * (np.abs(apart_s) / max(window.before_s, window.after_s)) ** TIME_POWER
    saved = np.where(inside, np.maximum(SILENCE_COST + TIE - cost, 0), 0)
    pairs = zip(*linear_sum_assignment(saved, maximize=True), strict=True)
    return [Match(rows[i], columns[j], float(alike[i, j])) for i, j in pairs if saved[i, j] > 0]


@dataclass(frozen=True)
class ReplyCounts:
    """Of one clip; over clips each field is summed. The last ten are sacrebleu's statistics of the correct pairs' texts,
    0 where sacrebleu is not installed.
    """

    matched: int
    correct: int
    """Of those matched."""
    missed: int
    redundant: int
    words_told: int = 0
    words_written: int = 0
    ngrams_1: int = 0
    ngrams_2: int = 0
    ngrams_3: int = 0
    ngrams_4: int = 0
    same_ngrams_1: int = 0
    same_ngrams_2: int = 0
    same_ngrams_3: int = 0
    same_ngrams_4: int = 0


def count_replies(
    gold: Sequence[Reply], predicted: Sequence[Reply], window: Window, similarity: Similarity
) -> ReplyCounts:
    """What `reply_metrics` needs of one clip."""
    matches = match_replies(gold, predicted, window, similarity)
    correct = [match for match in matches if match.is_correct]
    texts = [(gold[match.gold][1], predicted[match.predicted][1]) for match in correct]
    return ReplyCounts(
        len(matches), len(correct), len(gold) - len(matches), len(predicted) - len(matches), **_bleu_counts(texts)
    )


def _bleu_counts(texts: Sequence[tuple[str, str]]) -> dict[str, int]:
    if not texts or importlib.util.find_spec("sacrebleu") is None:
        return {}
    from sacrebleu.metrics import BLEU

    score = BLEU(force=True).corpus_score([written for _, written in texts], [[told for told, _ in texts]])
    counts = {"words_told": score.ref_len, "words_written": score.sys_len}
    for n, total, same in zip(NGRAMS, score.totals, score.counts, strict=True):
        counts |= {f"ngrams_{n}": total, f"same_ngrams_{n}": same}
    return counts


def reply_metrics(sums: Mapping[str, float]) -> Metrics:
    """Keys `reply/{precision,recall,f1,jaccard,missing,redundant}`, and `reply/bleu` (0 to 100, of the correct pairs).

    Absent: precision and redundant where nothing was written, recall and missing where nothing was told, f1 and jaccard
    where neither, bleu without a correct pair or without sacrebleu.

    Args:
        sums: by the names of `ReplyCounts`, over clips, each counted a whole number of times.
    """
    matched, correct, missed, redundant = (sums[name] for name in ("matched", "correct", "missed", "redundant"))
    told, written = matched + missed, matched + redundant
    shares = {
        "precision": (correct, written),
        "recall": (correct, told),
        "f1": (2 * correct, told + written),
        "jaccard": (correct, matched + missed + redundant),
        "missing": (missed, told),
        "redundant": (redundant, written),
    }
    metrics = {f"reply/{name}": part / whole for name, (part, whole) in shares.items() if whole}
    return metrics | ({"reply/bleu": _bleu(sums)} if sums["words_told"] else {})


def _bleu(sums: Mapping[str, float]) -> float:
    """The number of sacrebleu's `corpus_bleu` on all the texts that were counted."""
    from sacrebleu.metrics import BLEU

    same, total = ([int(sums[f"{name}_{n}"]) for n in NGRAMS] for name in ("same_ngrams", "ngrams"))
    lengths = int(sums["words_written"]), int(sums["words_told"])
    return float(BLEU.compute_bleu(same, total, *lengths, smooth_method="exp").score)
