"""Compares texts with steps: TF-IDF of words and of characters, alone or with a sentence model."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from dst_dist.build.steps import Step, repeated
from dst_dist.build.words import LIGHT, telling, with_groups

TFIDF = "tfidf"
WORDS_SHARE = 0.7
"""Share of the words in TF-IDF; the rest is the characters'."""
REPEATED_SHARE = 0.97
"""Share of others' similarity that a step which repeats them takes."""
LIGHT_WEIGHT = 0.4
GROUP_WEIGHT = 0.8
"""Weights of words that tell little, and of a group of words next to the word itself."""
SENTENCES_SHARE = 0.3
"""Share of a sentence model's cosine; the rest is TF-IDF's. Alone, it takes actions on one thing for the same."""
DECIMALS = 6
"""Digits kept, so that the order of additions never decides."""
_PART = re.compile(r"(?<=[.;!?])\s+|:\s+")

Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Takes texts and steps' texts; returns float64 [texts, steps] in [0, 1]."""


def open_similarity(name: str) -> Similarity:
    """Return the similarity of a name: `tfidf`, or a sentence-transformers model's folder or hub name.

    Raises:
        ConfigError: if the model cannot be loaded.
    """
    return tfidf if name == TFIDF else _sentence_model(name)


def compare(similarity: Similarity, texts: Sequence[str], steps: Sequence[Step]) -> np.ndarray:
    """Return float64 [texts, steps]: a step is as similar as its best part, and repeats what other steps say."""
    parts, owners = [], []
    for place, step in enumerate(steps):
        pieces = [piece for piece in _PART.split(step.name) if telling(piece)]
        for part in dict.fromkeys([step.name, *(pieces if len(pieces) > 1 else ())]):
            parts.append(part)
            owners.append(place)
    scores = np.zeros((len(texts), len(steps)))
    if not len(texts):
        return scores
    by_part = similarity(texts, parts)
    for part, owner in enumerate(owners):
        scores[:, owner] = np.maximum(scores[:, owner], by_part[:, part])
    place_of = {step.number: place for place, step in enumerate(steps)}
    for place, step in enumerate(steps):
        for other in repeated(step):
            if place_of.get(other, place) != place:
                scores[:, place] = np.maximum(scores[:, place], REPEATED_SHARE * scores[:, place_of[other]])
    return np.round(scores, DECIMALS)


def tfidf(texts: Sequence[str], steps: Sequence[str]) -> np.ndarray:
    """Return the weighted mean over words and characters of how far a text is covered by a step.

    Word features are stems and groups of words with one meaning; character features are 3 to 5 letters within the same
    words.
    """
    if not any(map(telling, texts)) or not any(map(telling, steps)):
        return np.zeros((len(texts), len(steps)))
    words = TfidfVectorizer(analyzer=with_groups, norm=None)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), preprocessor=_joined, norm=None)
    return WORDS_SHARE * _covered(words, texts, steps) + (1 - WORDS_SHARE) * _covered(letters, texts, steps)


def _joined(text: str) -> str:
    return " ".join(word for word in telling(text) if word not in LIGHT) or " ".join(telling(text))


def _covered(vectorizer: TfidfVectorizer, texts: Sequence[str], steps: Sequence[str]) -> np.ndarray:
    """Return the mean of the cosine and of how far a text is covered by the features that a step has too.

    The second does not count against a short text what a long step says besides.
    """
    features = vectorizer.fit_transform([*texts, *steps]).toarray()
    features *= [_weight(name) for name in vectorizer.get_feature_names_out()]
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    a, b = features[: len(texts)], features[len(texts) :]
    cosine = a @ b.T
    share_of_text = np.sqrt(a**2 @ (b.T > 0))
    share_of_step = np.sqrt((a > 0) @ b.T**2)
    cosine_of_shares = np.divide(cosine, share_of_step, out=np.zeros_like(cosine), where=share_of_step > 0)
    return (cosine + cosine_of_shares * share_of_text) / 2


def _weight(name: str) -> float:
    if name in LIGHT:
        return LIGHT_WEIGHT
    return GROUP_WEIGHT if name.startswith("=") else 1.0


def _sentence_model(name: str) -> Similarity:
    # Imported only here: it imports transformers.
    from dst_dist.sentence_models import load_sentence_model

    model = load_sentence_model("--similarity", name, "cpu", TFIDF)

    def similarity(texts: Sequence[str], steps: Sequence[str]) -> np.ndarray:
        a, b = (model.encode(list(some), convert_to_numpy=True, show_progress_bar=False) for some in (texts, steps))
        a, b = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (a, b))
        cosines = np.clip(a @ b.T, 0, 1).astype(np.float64)
        return SENTENCES_SHARE * cosines + (1 - SENTENCES_SHARE) * tfidf(texts, steps)

    return similarity
