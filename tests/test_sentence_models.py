"""Faults of sentence models; tests/real loads one."""

import sys
from types import SimpleNamespace

import pytest

from dst_dist.build.similarity import open_similarity as open_for_steps
from dst_dist.errors import ConfigError
from dst_dist.measure.similarity import open_similarity as open_for_replies

OPENERS = pytest.mark.parametrize(
    ("key", "open_similarity", "otherwise"),
    [("eval.similarity", open_for_replies, "lexical"), ("--similarity", open_for_steps, "tfidf")],
)


@OPENERS
def test_a_sentence_model_without_the_extra_raises(key, open_similarity, otherwise, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    fault = rf"^{key}: some/model needs.*pip install 'dst-dist\[replies\]', or leave {key} at {otherwise}$"
    with pytest.raises(ConfigError, match=fault):
        open_similarity("some/model")


@OPENERS
def test_another_kind_of_model_is_refused(key, open_similarity, otherwise, monkeypatch):
    """It would be loaded as one that averages its tokens."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=None))
    util = SimpleNamespace(is_sentence_transformer_model=lambda name: False)
    monkeypatch.setitem(sys.modules, "sentence_transformers.util", util)
    with pytest.raises(ConfigError, match=rf"^{key}: some/model is no sentence-transformers model.*no modules\.json"):
        open_similarity("some/model")
