"""The hand-made run's page, and one browser for all tests that need it."""

from pathlib import Path

import pytest

from dst_dist.report.page import write_report
from tests.report.browser import CHROMIUM, opened_browser
from tests.report.make_run import make_run


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Path:
    """The report of a hand-made run."""
    return write_report(make_run(tmp_path_factory.mktemp("report") / "first"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A tab of headless Chromium; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no `chromium` here to open the report in")
    with opened_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
