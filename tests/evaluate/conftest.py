"""Shared by the tests of evaluation: one run, and its evaluations by one process."""

import pytest

from tests.evaluate.evaluating import evaluate
from tests.train.in_process import train


@pytest.fixture(scope="session")
def run(demo_words, tmp_path_factory):
    """A run whose model writes updates and replies, some of them right."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    words = [
        "data.val=[workshop, kitchen]",
        "train.max_steps=60",
        "train.global_batch_size=8",
        "eval.every_steps=60",
        "eval.dst_threshold=0.3",
        "eval.speaking_threshold=0.3",
        "optim.learning_rate=2e-3",
        "optim.warmup_steps=5",
        "log.report_to=[]",
    ]
    assert train(["demo", *demo_words, *words, f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="session")
def alone(starter, run, tmp_path_factory):
    """(output, files) of both evaluations by one process: with the gold history, and streamed."""
    folder = tmp_path_factory.mktemp("alone")
    forced = evaluate(starter, run, folder / "forced", None, 1)
    return forced, evaluate(starter, run, folder / "streamed", None, 1, "--streaming")
