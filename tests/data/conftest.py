"""What tests of data share."""

import pytest

from tests.data.handmade import make_root


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")
