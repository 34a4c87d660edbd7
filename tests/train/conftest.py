"""Runs that are finished, and the logging of a test."""

import pytest

from tests.train.finished import FULL, LORA, recipe_words
from tests.train.in_process import own_logging, train


@pytest.fixture
def own_logging_of_test():
    """Undo what a command sets for the whole process."""
    with own_logging():
        yield


@pytest.fixture(scope="session")
def full(demo_words, tmp_path_factory):
    """The folder of a finished run that trained everything."""
    folder = tmp_path_factory.mktemp("runs") / "full"
    assert train(recipe_words(demo_words, folder, *FULL)) == 0
    return folder


@pytest.fixture(scope="session")
def lora(demo_words, tmp_path_factory):
    """The folder of a finished LoRA run."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    assert train(recipe_words(demo_words, folder, *LORA)) == 0
    return folder


@pytest.fixture
def earlier(request, full, lora):
    return {"full": full, "lora": lora}[request.param]
