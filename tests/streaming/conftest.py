"""Shared by the tests of streaming."""

import pytest

from tests.streaming.streams import untrained


@pytest.fixture(scope="module")
def world(demo_words):
    """(training data, untrained model in evaluation mode) of the small demo."""
    return untrained(demo_words)
