"""Similarity of two texts: shared words, or embeddings of a sentence model."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dst_dist.sentence_models import load_sentence_model

LEXICAL = "lexical"
DECIMALS = 6
"""Digits kept of a sentence model's cosines; later digits depend on which texts share a batch."""


class Similarity:
    """Compares texts, and reads each of them once.

    Args:
        name: stored in results.
        read: returns what `compare` needs of each text.
        compare: returns float64 [gold, predicted] from what was read of both sides.
    """

    def __init__(self, name: str, read: Callable[[list[str]], Sequence], compare: Callable[[list, list], np.ndarray]):
        self.name, self._read, self._compare = name, read, compare
        self._known: dict[str, Any] = {}

    def prepare(self, texts: Iterable[str]) -> None:
        """Read many texts at once; otherwise `cosines` reads what it lacks, a clip's few at a time."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= zip(new, self._read(new), strict=True)

    def cosines(self, gold: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
        """Return float64 [gold, predicted], each in [-1, 1]; exactly 1 for equal texts."""
        if not gold or not predicted:
            return np.zeros((len(gold), len(predicted)))
        self.prepare([*gold, *predicted])
        return self._compare([self._known[text] for text in gold], [self._known[text] for text in predicted])


def open_similarity(name: str, device: str = "cpu") -> Similarity:
    """Return the similarity that `eval.similarity` names: `lexical`, or a sentence model's folder or hub name.

    Raises:
        ConfigError: if the extra is not installed, or the model cannot be loaded.
    """
    return lexical() if name == LEXICAL else _sentence_model(name, device)


def lexical() -> Similarity:
    """Return the cosine of two sets of words: shared words over the root of both numbers of words.

    Letter case, order, repetition and punctuation do not count. A text without any word is its own only word.
    """

    def read(texts: list[str]) -> list[frozenset[str]]:
        return [frozenset(re.findall(r"\w+", text.casefold()) or [text.strip()]) for text in texts]

    def compare(gold: list[frozenset[str]], predicted: list[frozenset[str]]) -> np.ndarray:
        return np.array([[len(a & b) / math.sqrt(len(a) * len(b)) for b in predicted] for a in gold])

    return Similarity(LEXICAL, read, compare)


def _sentence_model(name: str, device: str) -> Similarity:
    """Return the cosine of two embeddings of a sentence-transformers model."""
    model = load_sentence_model("eval.similarity", name, device, LEXICAL)

    def read(texts: list[str]) -> np.ndarray:
        embeddings = model.encode(texts, batch_size=128, convert_to_numpy=True, show_progress_bar=False)
        embeddings = embeddings.astype(np.float64)
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        return embeddings / np.where(lengths > 0, lengths, 1)

    def compare(gold: list[np.ndarray], predicted: list[np.ndarray]) -> np.ndarray:
        return np.round(np.stack(gold) @ np.stack(predicted).T, DECIMALS)

    return Similarity(name, read, compare)
