"""Shared by all tests: the small demo, and the option that adds the long forms."""

import signal
from pathlib import Path

import pytest

from dst_dist.demo.make import Sizes, make_demo
from dst_dist.train.stop import SIGNALS

SMALL = Sizes(train=3, val=2, test=2, proassist=2, clips_per_video=3, frames_per_clip=16)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long forms too (hours)")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: a long form, run with --long only")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(autouse=True)
def _own_signal_handlers():
    """Undo what a program that a test calls sets for signals: a worker that ignores SIGTERM could not be ended."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """A small demo folder: 9 clips of 16 frames a domain to train on, 6 to validate, 6 ProAssist samples, the model."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, sizes=SMALL, workers=1)
    return folder


@pytest.fixture(scope="session")
def starter():
    """A process from which trainings are forked."""
    from tests.train.forking import Starter

    forks = Starter()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def demo_words(demo) -> tuple[str, ...]:
    """Words of a recipe that point `demo` at the small demo."""
    return (f"model.name_or_path={demo}/model", f"data.root={demo}")
