"""A process from which trainings are forked, for the tests that need many."""

import pytest

from tests.train.forking import Starter


@pytest.fixture(scope="session")
def starter():
    forks = Starter()
    yield forks
    forks.close()
